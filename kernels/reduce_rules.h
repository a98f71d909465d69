#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "sketchgrad/kernels/macros.h"

namespace sketchgrad::kernels {

// What a reduction adds up of each element, in double: the square of a small gradient is not
// flushed to 0, nor that of a large one to infinity.
struct Value {
  static SG_HD double of(float x) { return static_cast<double>(x); }
};
struct Square {
  static SG_HD double of(float x) { return static_cast<double>(x) * static_cast<double>(x); }
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
