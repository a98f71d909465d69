#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

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
  Lanes lanes{};
  if (count >= kLanes) {
    std::memcpy(&lanes, row, sizeof(lanes));
    return lanes;
  }
#if defined(__AVX512F__)
  return reinterpret_cast<Lanes>(
      _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), row));
#else
  for (int64_t i = 0; i < count; ++i) lanes[i] = row[i];
  return lanes;
#endif
}

inline void store_lanes(Lanes lanes, float* row, int64_t count) {
  if (count >= kLanes) {
    std::memcpy(row, &lanes, sizeof(lanes));
    return;
  }
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(row, static_cast<__mmask16>((1u << count) - 1u),
                        reinterpret_cast<__m512>(lanes));
#else
  for (int64_t i = 0; i < count; ++i) row[i] = lanes[i];
#endif
}

// Sixteen words side by side, for integers of 8 and 16 bits and the bits of floats.
using Words = uint32_t __attribute__((vector_size(64)));
inline constexpr Words kLaneNumbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// As many numbers of 8 or of 16 bits.
using Bytes = uint8_t __attribute__((vector_size(16)));
using Halves = uint16_t __attribute__((vector_size(32)));
template <class T>
using Packed = std::conditional_t<sizeof(T) == 1, Bytes, Halves>;

// T: uint8_t or uint16_t.
template <class T>
Words load_words(const T* row, int64_t count) {
  Packed<T> packed{};
  if (count >= kLanes) {
    std::memcpy(&packed, row, sizeof(packed));
  } else {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    const auto mask = static_cast<__mmask16>((1u << count) - 1u);
    if constexpr (sizeof(T) == 1) {
      packed = reinterpret_cast<Packed<T>>(_mm_maskz_loadu_epi8(mask, row));
    } else {
      packed = reinterpret_cast<Packed<T>>(_mm256_maskz_loadu_epi16(mask, row));
    }
#else
    for (int64_t i = 0; i < count; ++i) packed[i] = row[i];
#endif
  }
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  // GCC 12 widens bytes by four one after the other, and takes nine instructions by two and two.
  constexpr __mmask16 kAll = 0xFFFF;
  if constexpr (sizeof(T) == 1) {
    return reinterpret_cast<Words>(
        _mm512_maskz_cvtepu8_epi32(kAll, reinterpret_cast<__m128i>(packed)));
  }
#endif
  return __builtin_convertvector(__builtin_convertvector(packed, Halves), Words);
}

// The lower bits of each word.
template <class T>
void store_words(Words words, T* row, int64_t count) {
  const auto packed = __builtin_convertvector(words, Packed<T>);
  if (count >= kLanes) {
    std::memcpy(row, &packed, sizeof(packed));
    return;
  }
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1u);
  if constexpr (sizeof(T) == 1) {
    _mm_mask_storeu_epi8(row, mask, reinterpret_cast<__m128i>(packed));
  } else {
    _mm256_mask_storeu_epi16(row, mask, reinterpret_cast<__m256i>(packed));
  }
#else
  for (int64_t i = 0; i < count; ++i) row[i] = packed[i];
#endif
}

template <int... kFrom, class T>
T permute_lanes(T lanes) {
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

inline uint32_t largest_lane(Words words) {
  const auto larger = [&](Words other) { words = words > other ? words : other; };
  larger(permute_lanes<8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7>(words));
  larger(permute_lanes<4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11>(words));
  larger(permute_lanes<2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13>(words));
  return words[0] > words[1] ? words[0] : words[1];
}

}  // namespace sketchgrad::kernels
