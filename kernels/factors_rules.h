#pragma once

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

using FactorElement = std::variant<InputElement, CoverElement>;

struct EntryElement {
  const int32_t* ids;
  const float* x;
  SG_HD double operator()(int64_t r) const {
    const int64_t id = table_row_of(ids, r);
    return id < 0 ? 0.0 : static_cast<double>(x[id]);
  }
};

// ---- Loop bodies

struct AdvanceEntry {
  const int32_t* ids;
  float decay;
  float scale;
  const float* values;
  float* x;
  SG_HD void operator()(int64_t r) const {
    const int64_t id = table_row_of(ids, r);
    if (id >= 0) x[id] = decay * x[id] + scale * values[r];
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
    const float share = whole != 0.0f ? decay.factor * *decay.part / whole : 1.0f;
    x[c] = (1.0f + (decay.entry_decay - 1.0f) * share) * x[c] + scale * values[c];
  }
};

struct OverMean {
  const float* x;
  const float* total;
  float count;
  float* out;
  SG_HD void operator()(int64_t c) const { out[c] = *total != 0.0f ? count * x[c] / *total : 1.0f; }
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
    std::variant<AdvanceEntry, RaiseEntry, AdvanceColumn, OverMean, SpreadMinimum, AxisMaximum>;

}  // namespace sketchgrad::kernels
