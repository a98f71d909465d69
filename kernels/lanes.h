#pragma once

#include <cstdint>

// Eight floats side by side, for CPU loops that compilers vectorise badly by themselves. A sum
// over columns has one order on every machine.
namespace sketchgrad::kernels {

using Lanes = float __attribute__((vector_size(32)));
inline constexpr int64_t kLanes = 8;

// The first `count` of the lanes from `row`, zeros behind.
template <bool kFull>
Lanes load_lanes(const float* row, int64_t count) {
  using Unaligned = float __attribute__((vector_size(32), aligned(4)));
  if (kFull || count >= kLanes) return *reinterpret_cast<const Unaligned*>(row);
  Lanes lanes{};
  for (int64_t i = 0; i < count; ++i) lanes[i] = row[i];
  return lanes;
}

template <bool kFull>
void store_lanes(Lanes lanes, float* row, int64_t count) {
  using Unaligned = float __attribute__((vector_size(32), aligned(4)));
  if (kFull || count >= kLanes) {
    *reinterpret_cast<Unaligned*>(row) = lanes;
    return;
  }
  for (int64_t i = 0; i < count; ++i) row[i] = lanes[i];
}

inline float sum_lanes(Lanes lanes) {
  lanes += __builtin_shufflevector(lanes, lanes, 4, 5, 6, 7, 0, 1, 2, 3);
  lanes += __builtin_shufflevector(lanes, lanes, 2, 3, 0, 1, 6, 7, 4, 5);
  return lanes[0] + lanes[1];
}

}  // namespace sketchgrad::kernels
