#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// Sixteen floats side by side, for CPU loops that compilers vectorise badly by themselves. A sum
// over columns has one order on every machine.
namespace sketchgrad::kernels {

using Lanes = float __attribute__((vector_size(64)));
inline constexpr int64_t kLanes = 16;

// The first `count` of the lanes from `row`, zeros behind.
inline Lanes load_lanes(const float* row, int64_t count) {
  using Unaligned = float __attribute__((vector_size(64), aligned(4)));
  if (count >= kLanes) return *reinterpret_cast<const Unaligned*>(row);
#if defined(__AVX512F__)
  return reinterpret_cast<Lanes>(
      _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), row));
#else
  Lanes lanes{};
  for (int64_t i = 0; i < count; ++i) lanes[i] = row[i];
  return lanes;
#endif
}

inline void store_lanes(Lanes lanes, float* row, int64_t count) {
  using Unaligned = float __attribute__((vector_size(64), aligned(4)));
  if (count >= kLanes) {
    *reinterpret_cast<Unaligned*>(row) = lanes;
    return;
  }
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(row, static_cast<__mmask16>((1u << count) - 1u),
                        reinterpret_cast<__m512>(lanes));
#else
  for (int64_t i = 0; i < count; ++i) row[i] = lanes[i];
#endif
}

template <int... kFrom>
Lanes permute_lanes(Lanes lanes) {
#if defined(__clang__)
  return __builtin_shufflevector(lanes, lanes, kFrom...);
#else
  using Indices = int __attribute__((vector_size(64)));
  return __builtin_shuffle(lanes, Indices{kFrom...});
#endif
}

// In a fixed order, by halves.
inline float sum_lanes(Lanes lanes) {
  lanes += permute_lanes<8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7>(lanes);
  lanes += permute_lanes<4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11>(lanes);
  lanes += permute_lanes<2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13>(lanes);
  return lanes[0] + lanes[1];
}

}  // namespace sketchgrad::kernels
