#pragma once

#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/math_rules.h"
#include "sketchgrad/kernels/philox.h"

// Floats of 16 and of 8 bits for the state of optimizers. Rounding is stochastic: up with the
// probability that the part behind has, so that a mean over many steps keeps what each of them
// adds, however small beside the whole. (Gupta et al. 2015, "Deep Learning with Limited Numerical
// Precision".)
namespace sketchgrad::kernels {

// ---- bf16: the upper half of a float

SG_HD float bf16_to_float(uint16_t bits) {
  return float_from_bits(static_cast<uint32_t>(bits) << 16);
}
// `random`: 32 bits, of which the lower 16 are used. Infinity and NaN stay; the largest floats can
// be rounded to infinity.
SG_HD uint16_t float_to_bf16(float x, uint32_t random) {
  const auto bits = bits_from_float(x);
  const bool finite = (bits & 0x7F800000u) != 0x7F800000u;
  if (x != x) return 0x7FC0u;
  return static_cast<uint16_t>((finite ? bits + (random & 0xFFFFu) : bits) >> 16);
}

// ---- 8 bits, as multiples of a scale that a block of elements shares

// An element of at least 0: 5 bits of exponent, 3 of mantissa. With a sign: 1, 4 and 3. The largest
// code is kLargestCode times the scale, and steps are at most 1/8 of a value down to
// 2^-30 (2^-14) of the scale, below which they are even.
inline constexpr float kLargestCode = 1.875f;

template <bool kSigned>
struct Float8 {
  static constexpr uint32_t kMantissa = 3;
  static constexpr uint32_t kExponents = kSigned ? 15 : 31;  // the largest exponent, of 1.xxx
  static constexpr uint32_t kLargest = kExponents << kMantissa | 7;
  // What codes of exponents from 1 on lack to be the upper bits of a float.
  static constexpr uint32_t kBias = (127 - kExponents) << kMantissa;
  static constexpr uint32_t kShift = 23 - kMantissa;

  // The step of codes of exponent 0: that of exponent 1.
  static SG_HD float least() { return float_from_bits((127u - kExponents + 1u - kMantissa) << 23); }
  static SG_HD float magnitude(uint32_t code) {
    const float normal = float_from_bits((code + kBias) << kShift);
    return code >= 8 ? normal : static_cast<float>(code) * least();
  }
  static SG_HD float to_float(uint8_t code) {
    if constexpr (!kSigned) return magnitude(code);
    const float value = magnitude(code & 0x7Fu);
    return (code & 0x80u) != 0 ? -value : value;
  }
  // x in multiples of the scale, at most kLargestCode; more counts as that.
  static SG_HD uint8_t from_float(float x, uint32_t random) {
    const float absolute = x < 0.0f ? -x : x;
    const float size = absolute < kLargestCode ? absolute : kLargestCode;  // of a NaN, too
    const auto bits = bits_from_float(size);
    const uint32_t normal = ((bits + (random & ((1u << kShift) - 1u))) >> kShift) - kBias;
    // 16 bits of a uniform number: the sum with a whole one below 8 is exact.
    const float uniform = static_cast<float>(random >> 16) * (1.0f / 65536.0f);
    const float below = size < 8.0f * least() ? size : 0.0f;
    const auto even = static_cast<uint32_t>(below / least() + uniform);
    uint32_t code = size >= 8.0f * least() ? normal : even;
    code = code < kLargest ? code : kLargest;
    if constexpr (kSigned) code |= x < 0.0f ? 0x80u : 0u;
    return static_cast<uint8_t>(code);
  }
};

}  // namespace sketchgrad::kernels
