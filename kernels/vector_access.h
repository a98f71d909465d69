#pragma once

#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

// kVec neighbouring floats, which a GPU reads and writes at once.
template <int kVec>
struct alignas(sizeof(float) * kVec) Floats {
  float at[kVec];
};

template <int kVec>
SG_HD Floats<kVec> load_floats(const float* from) {
  return *reinterpret_cast<const Floats<kVec>*>(from);
}
template <int kVec>
SG_HD void store_floats(const Floats<kVec>& values, float* to) {
  *reinterpret_cast<Floats<kVec>*>(to) = values;
}

// Whether every row of a matrix may be accessed in steps of kVec floats.
template <int kVec>
bool is_aligned(ConstMatrix matrix) {
  return reinterpret_cast<uintptr_t>(matrix.data) % sizeof(Floats<kVec>) == 0 &&
         matrix.stride % kVec == 0 && matrix.cols % kVec == 0;
}

}  // namespace sketchgrad::kernels
