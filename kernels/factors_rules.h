#pragma once

#include <cmath>
#include <cstdint>
#include <variant>

#include "sketchgrad/kernels/factors.h"
#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/reduce_rules.h"
#include "sketchgrad/kernels/views.h"

// The mathematics of one element of factors.h.
namespace sketchgrad::kernels {

// ---- What is reduced, and by which Op: row(r) gives a function of the column.

SG_HD int64_t table_row_of(const int32_t* ids, int64_t r) { return ids != nullptr ? ids[r] : r; }

struct InputElement {
  using Op = AddUp;
  const int32_t* ids;
  ConstMatrix gradient;
  bool squared;
  struct Row {
    const float* gradient;
    bool squared;
    SG_HD double operator()(int64_t c) const {
      return squared ? Square::of(gradient[c]) : Value::of(gradient[c]);
    }
  };
  SG_HD bool skip(int64_t r) const { return table_row_of(ids, r) < 0; }
  SG_HD Row row(int64_t r) const { return {gradient.row(r), squared}; }
};

// An input times a factor of its column, or of its entry.
struct ProductElement {
  using Op = AddUp;
  const int32_t* ids;
  ConstMatrix gradient;
  bool squared;
  const float* columns;  // [D], or null
  const float* entries;  // [K], or null
  struct Row {
    InputElement::Row input;
    const float* columns;
    double factor;
    SG_HD double operator()(int64_t c) const {
      const double product = factor * input(c);
      return columns != nullptr ? static_cast<double>(columns[c]) * product : product;
    }
  };
  SG_HD bool skip(int64_t r) const { return table_row_of(ids, r) < 0; }
  SG_HD Row row(int64_t r) const {
    return {{gradient.row(r), squared},
            columns,
            entries != nullptr ? static_cast<double>(entries[r]) : 1.0};
  }
};

struct CoverElement {
  using Op = Largest;
  const int32_t* ids;
  ConstMatrix gradient;
  Covers covers;
  struct Row {
    const float* gradient;
    const float* columns;
    float row_cover;
    float keep;
    float scale;
    SG_HD double operator()(int64_t c) const {
      const float g = gradient[c];
      const float least = row_cover < columns[c] ? row_cover : columns[c];
      return static_cast<double>(keep * least + scale * (g * g));
    }
  };
  SG_HD bool skip(int64_t r) const { return table_row_of(ids, r) < 0; }
  SG_HD Row row(int64_t r) const {
    return {gradient.row(r), covers.columns, covers.rows[table_row_of(ids, r)], covers.keep,
            covers.scale};
  }
};

using FactorElement = std::variant<InputElement, ProductElement, CoverElement>;

struct EntryElement {
  const int32_t* ids;
  const float* x;
  SG_HD double operator()(int64_t r) const {
    const int64_t id = table_row_of(ids, r);
    return id < 0 ? 0.0 : static_cast<double>(x[id]);
  }
};

struct EntryProduct {
  const int32_t* ids;
  const float* x;
  const float* y;
  SG_HD double operator()(int64_t r) const {
    const int64_t id = table_row_of(ids, r);
    return id < 0 ? 0.0 : static_cast<double>(x[id]) * static_cast<double>(y[r]);
  }
};

// ---- Loop bodies

struct AdvanceEntry {
  const int32_t* ids;
  Accumulate rule;
  const float* values;
  float* x;
  SG_HD void operator()(int64_t r) const {
    const int64_t id = table_row_of(ids, r);
    if (id >= 0) x[id] = rule.of_entry(r).decay * x[id] + rule.scale * values[r];
  }
};

struct DecaySince {
  const int32_t* ids;
  const int32_t* last_steps;
  int32_t step;
  float decay;
  float* out;
  SG_HD void operator()(int64_t r) const {
    const int64_t id = table_row_of(ids, r);
    const int32_t last = id >= 0 ? last_steps[id] : 0;
    out[r] = last > 0 ? power(decay, static_cast<uint32_t>(step - last)) : decay;
  }

 private:
  // By squares: the same bits everywhere.
  static SG_HD float power(float base, uint32_t exponent) {
    float result = 1.0f;
    for (; exponent > 0; exponent >>= 1) {
      if ((exponent & 1u) != 0) result *= base;
      base *= base;
    }
    return result;
  }
};

struct SetLastStep {
  const int32_t* ids;
  int32_t step;
  int32_t* last_steps;
  SG_HD void operator()(int64_t r) const {
    const int64_t id = table_row_of(ids, r);
    if (id >= 0) last_steps[id] = step;
  }
};

struct AddToEntry {
  const int32_t* ids;
  const float* x;
  float scale;
  const float* values;
  float* out;
  SG_HD void operator()(int64_t r) const {
    const int64_t id = table_row_of(ids, r);
    out[r] = id < 0 ? 0.0f : x[id] + scale * values[r];
  }
};

struct RaiseEntry {
  const float* values;
  float* x;
  SG_HD void operator()(int64_t i) const {
    x[i] =
        static_cast<float>(Largest::of(static_cast<double>(x[i]), static_cast<double>(values[i])));
  }
};

struct AdvanceColumn {
  PartialDecay decay;
  float scale;
  const float* values;
  float* x;
  SG_HD void operator()(int64_t c) const {
    const float whole = *decay.whole;
    const float lost = decay.kept != nullptr ? *decay.kept - *decay.part
                                             : (decay.entry_decay - 1.0f) * *decay.part;
    const float change = whole != 0.0f ? decay.factor * lost / whole : decay.entry_decay - 1.0f;
    x[c] = (1.0f + change) * x[c] + scale * values[c];
  }
};

struct OverMean {
  const float* x;
  const float* total;
  float count;
  float* out;
  SG_HD void operator()(int64_t c) const { out[c] = *total != 0.0f ? count * x[c] / *total : 1.0f; }
};

SG_HD double root_of(const Length& length) {
  return sqrt(*length.squares + (length.more != nullptr ? *length.more : 0.0));
}

struct OverLength {
  Length length;
  float* x;
  const float* otherwise;
  SG_HD void operator()(int64_t i) const {
    const double root = root_of(length);
    if (root != 0.0) {
      x[i] = static_cast<float>(static_cast<double>(x[i]) / root);
    } else if (otherwise != nullptr) {
      x[i] = otherwise[i];
    }
  }
};

struct MultiplyBy {
  const double* factor;
  float* x;
  SG_HD void operator()(int64_t i) const {
    x[i] = static_cast<float>(*factor * static_cast<double>(x[i]));
  }
};

struct CombineColumn {
  ColumnWeight weight;
  float scale;
  const float* columns;
  float* out;
  SG_HD void operator()(int64_t c) const {
    const double root = root_of(weight.length);
    const double kept = *weight.whole + static_cast<double>(scale) * *weight.part;
    const double share = root != 0.0 ? kept / root : 0.0;
    out[c] = static_cast<float>(share * static_cast<double>(columns[c]) +
                                static_cast<double>(scale) * static_cast<double>(out[c]));
  }
};

struct SpreadMinimum {
  ColumnAxis axis;
  const float* cover;
  float* out;
  SG_HD void operator()(int64_t c) const {
    const float bound = cover[c / axis.inner % axis.size];
    out[c] = bound < out[c] ? bound : out[c];
  }
};

struct AxisMaximum {
  ColumnAxis axis;
  const float* columns;
  float* out;
  SG_HD void operator()(int64_t k) const {
    double largest = 0.0;
    for (int64_t o = 0; o < axis.outer; ++o) {
      for (int64_t i = 0; i < axis.inner; ++i) {
        const float x = columns[(o * axis.size + k) * axis.inner + i];
        largest = Largest::of(largest, static_cast<double>(x));
      }
    }
    out[k] = static_cast<float>(largest);
  }
};

using FactorLoop =
    std::variant<AdvanceEntry, DecaySince, SetLastStep, AddToEntry, RaiseEntry, AdvanceColumn,
                 OverMean, OverLength, MultiplyBy, CombineColumn, SpreadMinimum, AxisMaximum>;

}  // namespace sketchgrad::kernels
