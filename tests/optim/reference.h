#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "sketchgrad/kernels/sketch.h"
#include "sketchgrad/optim/memory_spec.h"

// Transcriptions of the papers' algorithms in double precision, one item and one column at a time,
// written apart from the library: they share nothing with it but the hash function and how columns
// are cut to pieces.
namespace sketchgrad::test {

using Values = std::vector<std::vector<double>>;  // [entry][column]

// Algorithm 1: the count-sketch tensor.
struct ReferenceSketch {
  int depth;
  int64_t width;
  int64_t dim;
  uint64_t seed;
  bool is_signed;
  int64_t band_rows = 0;  // 0: hashed; else the rows of the table
  std::vector<double> cells = std::vector<double>(static_cast<size_t>(depth * width * dim), 0.0);

  int64_t h(int j, int64_t item) const {
    if (band_rows > 0) return item * width / band_rows;
    return kernels::slot_bucket(kernels::sketch_slot(seed, j, item, width));
  }
  double s(int j, int64_t item) const {
    if (!is_signed) return 1.0;
    return kernels::slot_sign(kernels::RowHash{seed, band_rows}.slot(j, item, width));
  }
  double& cell(int j, int64_t bucket, int64_t column) {
    return cells[static_cast<size_t>((j * width + bucket) * dim + column)];
  }
  std::vector<double> readings(int64_t item, int64_t column) {
    std::vector<double> values;
    for (int j = 0; j < depth; ++j) values.push_back(s(j, item) * cell(j, h(j, item), column));
    return values;
  }
  double median(int64_t item, int64_t column) {
    std::vector<double> v = readings(item, column);
    std::sort(v.begin(), v.end());
    const size_t n = v.size();
    return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2.0;
  }
  double minimum(int64_t item, int64_t column) {
    const std::vector<double> v = readings(item, column);
    return *std::min_element(v.begin(), v.end());
  }
  double mean(int64_t item, int64_t column) {
    double sum = 0.0;
    for (const double v : readings(item, column)) sum += v;
    return sum / depth;
  }
};

// One auxiliary variable in a sketch under one reading: x <- decay x + scale u for the items of a
// step.
class ReferenceMemory {
 public:
  ReferenceMemory(ReferenceSketch sketch, Reading reading, int64_t rows)
      : sketch_(std::move(sketch)),
        reading_(reading),
        row_state_(static_cast<size_t>(rows),
                   std::vector<double>(static_cast<size_t>(sketch_.dim), 0.0)) {}

  Values step(const std::vector<int64_t>& items, const Values& inputs, double decay, double scale,
              int64_t t) {
    if (items.empty()) return {};  // a step without active rows does not count for the table
    Values old = read(items);
    switch (reading_) {
      case Reading::requery: {
        write_sum(items, delta(old, inputs, decay, scale));
        return read(items);
      }
      case Reading::own_delta: {
        write_sum(items, delta(old, inputs, decay, scale));
        return own(old, inputs, decay, scale);
      }
      case Reading::mean_delta: {
        write_mean(items, delta(old, inputs, decay, scale));
        return own(old, inputs, decay, scale);
      }
      case Reading::bucket_local: {
        const ReferenceSketch before = sketch_;
        for (size_t e = 0; e < items.size(); ++e) {
          for (int64_t c = 0; c < sketch_.dim; ++c) {
            for (int j = 0; j < sketch_.depth; ++j) {
              const int64_t bucket = sketch_.h(j, items[e]);
              ReferenceSketch stale = before;
              sketch_.cell(j, bucket, c) +=
                  (decay - 1.0) * stale.cell(j, bucket, c) +
                  scale * sketch_.s(j, items[e]) * inputs[e][static_cast<size_t>(c)];
            }
          }
        }
        clamp(items);
        return own(old, inputs, decay, scale);
      }
      case Reading::linear: {
        for (double& cell : sketch_.cells) cell *= decay;
        write_sum(items, delta(old, inputs, 1.0, scale));
        return own(old, inputs, decay, scale);
      }
      case Reading::trusted:
        return trusted(items, old, inputs, decay, scale, t);
      case Reading::wiener:
        return wiener(items, old, inputs, decay, scale, t);
      case Reading::row_scaled:
        return row_scaled(items, old, inputs, decay, scale);
      case Reading::automatic:
        break;
    }
    throw std::logic_error("no such reading");
  }

  ReferenceSketch& sketch() { return sketch_; }

 private:
  Values read(const std::vector<int64_t>& items) {
    Values result(items.size());
    for (size_t e = 0; e < items.size(); ++e) {
      for (int64_t c = 0; c < sketch_.dim; ++c) {
        result[e].push_back(sketch_.is_signed                 ? sketch_.median(items[e], c)
                            : reading_ == Reading::row_scaled ? sketch_.mean(items[e], c)
                                                              : sketch_.minimum(items[e], c));
      }
    }
    return result;
  }

  static Values delta(const Values& old, const Values& inputs, double decay, double scale) {
    Values result = old;
    for (size_t e = 0; e < old.size(); ++e) {
      for (size_t c = 0; c < old[e].size(); ++c) {
        result[e][c] = (decay - 1.0) * old[e][c] + scale * inputs[e][c];
      }
    }
    return result;
  }

  static Values own(const Values& old, const Values& inputs, double decay, double scale) {
    Values result = old;
    for (size_t e = 0; e < old.size(); ++e) {
      for (size_t c = 0; c < old[e].size(); ++c) {
        result[e][c] = decay * old[e][c] + scale * inputs[e][c];
      }
    }
    return result;
  }

  void write_sum(const std::vector<int64_t>& items, const Values& deltas) {
    for (size_t e = 0; e < items.size(); ++e) {
      for (int64_t c = 0; c < sketch_.dim; ++c) {
        for (int j = 0; j < sketch_.depth; ++j) {
          sketch_.cell(j, sketch_.h(j, items[e]), c) +=
              sketch_.s(j, items[e]) * deltas[e][static_cast<size_t>(c)];
        }
      }
    }
    clamp(items);
  }

  void write_mean(const std::vector<int64_t>& items, const Values& deltas) {
    for (int j = 0; j < sketch_.depth; ++j) {
      for (int64_t bucket = 0; bucket < sketch_.width; ++bucket) {
        for (int64_t c = 0; c < sketch_.dim; ++c) {
          double sum = 0.0;
          int count = 0;
          for (size_t e = 0; e < items.size(); ++e) {
            if (sketch_.h(j, items[e]) != bucket) continue;
            sum += sketch_.s(j, items[e]) * deltas[e][static_cast<size_t>(c)];
            ++count;
          }
          if (count > 0) sketch_.cell(j, bucket, c) += sum / count;
        }
      }
    }
    clamp(items);
  }

  // Second moments are not negative.
  void clamp(const std::vector<int64_t>& items) {
    if (sketch_.is_signed) return;
    for (const int64_t item : items) {
      for (int j = 0; j < sketch_.depth; ++j) {
        for (int64_t c = 0; c < sketch_.dim; ++c) {
          double& cell = sketch_.cell(j, sketch_.h(j, item), c);
          cell = std::max(cell, 0.0);
        }
      }
    }
  }

  // f(entry, first column, last column) for every piece of every row.
  template <class F>
  void for_each_piece(const std::vector<int64_t>& items, const F& f) const {
    const int64_t piece = kernels::sketch_piece_columns(sketch_.dim);
    for (size_t e = 0; e < items.size(); ++e) {
      for (int64_t begin = 0; begin < sketch_.dim; begin += piece) {
        f(e, static_cast<size_t>(begin), static_cast<size_t>(std::min(sketch_.dim, begin + piece)));
      }
    }
  }

  // Sum of scale * decay^k, k < t.
  static double mass(double decay, double scale, int64_t t) {
    double sum = 0.0;
    for (int64_t k = 0; k < t; ++k) sum = decay * sum + scale;
    return sum;
  }

  Values trusted(const std::vector<int64_t>& items, const Values& old, const Values& inputs,
                 double decay, double scale, int64_t t) {
    Values result = old;
    const double now = mass(decay, scale, t);
    const double before = mass(decay, scale, t - 1);
    for_each_piece(items, [&](size_t e, size_t begin, size_t end) {
      double noise = 0.0;
      double power = 0.0;
      for (size_t c = begin; c < end; ++c) {
        const int64_t column = static_cast<int64_t>(c);
        const double mean = sketch_.mean(items[e], column);
        for (const double v : sketch_.readings(items[e], column)) noise += std::pow(v - mean, 2);
        power += old[e][c] * old[e][c];
      }
      noise /= sketch_.depth * (sketch_.depth - 1);
      const double trust = noise > 0.0 ? std::max(0.0, 1.0 - 3.0 * noise / power) : 1.0;
      for (size_t c = begin; c < end; ++c) {
        result[e][c] = trust * decay * old[e][c] + (now - trust * decay * before) * inputs[e][c];
      }
    });
    write_mean(items, delta(old, inputs, decay, scale));
    return result;
  }

  Values wiener(const std::vector<int64_t>& items, const Values& old, const Values& inputs,
                double decay, double scale, int64_t t) {
    Values result = old;
    const double now = mass(decay, scale, t);
    const double before = mass(decay, scale, t - 1);
    for_each_piece(items, [&](size_t e, size_t begin, size_t end) {
      double& row_power = row_state_[static_cast<size_t>(items[e])][begin];
      double reading_power = 0.0;
      for (size_t c = begin; c < end; ++c) reading_power += old[e][c] * old[e][c];
      const double trust = row_power < reading_power ? row_power / reading_power : 1.0;
      row_power *= decay * decay;
      for (size_t c = begin; c < end; ++c) {
        row_power += 2.0 * decay * scale * trust * old[e][c] * inputs[e][c] +
                     std::pow(scale * inputs[e][c], 2);
        result[e][c] = trust * decay * old[e][c] + (now - trust * decay * before) * inputs[e][c];
      }
    });
    decay_and_add(items, inputs, decay, scale);
    return result;
  }

  Values row_scaled(const std::vector<int64_t>& items, const Values& old, const Values& inputs,
                    double decay, double scale) {
    Values result = old;
    Values profiles = inputs;
    for_each_piece(items, [&](size_t e, size_t begin, size_t end) {
      const double columns = static_cast<double>(end - begin);
      double mean_input = 0.0;
      double mean_estimate = 0.0;
      for (size_t c = begin; c < end; ++c) {
        mean_input += inputs[e][c] / columns;
        mean_estimate += old[e][c] / columns;
      }
      double& rho = row_state_[static_cast<size_t>(items[e])][begin];
      for (size_t c = begin; c < end; ++c) {
        const double shape = mean_estimate > 0.0 ? old[e][c] / mean_estimate : 1.0;
        result[e][c] = decay * rho * shape + scale * inputs[e][c];
        profiles[e][c] = mean_input > 0.0 ? inputs[e][c] / mean_input : 0.0;
      }
      rho = decay * rho + scale * mean_input;
    });
    decay_and_add(items, profiles, decay, 1.0);
    return result;
  }

  // Each touched bucket decays once and takes the sum of its rows' values.
  void decay_and_add(const std::vector<int64_t>& items, const Values& values, double decay,
                     double scale) {
    for (int j = 0; j < sketch_.depth; ++j) {
      std::vector<bool> touched(static_cast<size_t>(sketch_.width));
      for (const int64_t item : items) touched[static_cast<size_t>(sketch_.h(j, item))] = true;
      for (int64_t c = 0; c < sketch_.dim; ++c) {
        for (int64_t b = 0; b < sketch_.width; ++b) {
          if (touched[static_cast<size_t>(b)]) sketch_.cell(j, b, c) *= decay;
        }
        for (size_t e = 0; e < items.size(); ++e) {
          sketch_.cell(j, sketch_.h(j, items[e]), c) +=
              sketch_.s(j, items[e]) * scale * values[e][static_cast<size_t>(c)];
        }
      }
    }
  }

  ReferenceSketch sketch_;
  Reading reading_;
  // Of item i, for the piece that begins at column c: row_state_[i][c].
  std::vector<std::vector<double>> row_state_;
};

}  // namespace sketchgrad::test
