#pragma once

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

}  // namespace sketchgrad::kernels
