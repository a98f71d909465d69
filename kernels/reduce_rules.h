#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

// What a reduction adds up of each element, in double: the square of a small gradient is not
// flushed to 0, nor that of a large one to infinity.
struct Value {
  static SG_HD double of(float x) { return static_cast<double>(x); }
};
struct Square {
  static SG_HD double of(float x) { return static_cast<double>(x) * static_cast<double>(x); }
};

// How results are combined.
struct AddUp {
  static SG_HD double of(double a, double b) { return a + b; }
};
// Of numbers that are not negative. A NaN stays one.
struct Largest {
  static SG_HD double of(double a, double b) { return b > a || b != b ? b : a; }
};

// A matrix for a reduction over its columns: row(r) gives a function of the column.
struct ValueElement {
  using Op = AddUp;
  ConstMatrix in;
  struct Row {
    const float* row;
    SG_HD double operator()(int64_t c) const { return Value::of(row[c]); }
  };
  SG_HD bool skip(int64_t) const { return false; }
  SG_HD Row row(int64_t r) const { return {in.row(r)}; }
};

// What becomes of a column's result.
struct AddToColumn {
  float* out;
  SG_HD void operator()(int64_t c, float result) const { out[c] += result; }
};
struct StoreColumn {
  float* out;
  SG_HD void operator()(int64_t c, float result) const { out[c] = result; }
};

// Loop body of one element.
struct ClipFactor {
  const double* squares;
  double max_norm;
  float* norm;
  float* factor;
  SG_HD void operator()(int64_t) const {
    const double root = sqrt(*squares);
    // A finite norm stays one.
    *norm = static_cast<float>(root > FLT_MAX && root < HUGE_VAL ? FLT_MAX : root);
    *factor = root > max_norm ? static_cast<float>(max_norm / root) : 1.0f;
  }
};

}  // namespace sketchgrad::kernels
