#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "sketchgrad/kernels/macros.h"

// Transcendental functions without branches or library calls, so that loops over them vectorise,
// with the same formula on every device.
namespace sketchgrad::kernels {

SG_HD float float_from_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
#endif
}

SG_HD uint32_t bits_from_float(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
#endif
}

// e^x to 1.1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, and a minimax polynomial for e^r (Cephes expf).
// Results below 1.18e-38, the smallest normal number, become 0; above x = 88.72283, infinity. NaN
// stays NaN.
SG_HD float fast_exp(float x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum. Unlike a
  // conversion that is defined for every x; what lies out of range is replaced at the end.
  const float shifted = x * 1.44269504088896341f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // Times 2^n, in the exponent's bits: in range of x the product is a normal number.
  const float scaled = float_from_bits(bits_from_float(p) + (bits_from_float(shifted) << 23));
  const float upper = x > 88.72283f ? INFINITY : (x == x ? scaled : x);
  return x < -87.33654f ? 0.0f : upper;
}

// Natural logarithm of a positive normal number to 2e-7 of max(1, |log x|): x = m 2^n with m in
// [1/sqrt(2), sqrt(2)), and log m = 2 artanh((m - 1) / (m + 1)) as a series.
SG_HD float fast_log(float x) {
  const uint32_t bits = bits_from_float(x);
  const uint32_t offset = bits - 0x3f3504f3u;  // from 1/sqrt(2) on
  const float n = static_cast<float>(static_cast<int32_t>(offset) >> 23);
  const float m = float_from_bits((offset & 0x007fffffu) + 0x3f3504f3u);
  const float s = (m - 1.0f) / (m + 1.0f);
  const float s2 = s * s;
  float p = 2.0f / 9.0f;
  p = p * s2 + 2.0f / 7.0f;
  p = p * s2 + 2.0f / 5.0f;
  p = p * s2 + 2.0f / 3.0f;
  return n * 0.693147181f + (p * s2 * s + 2.0f * s);
}

// To 3 ulp; results below 1.18e-38 are within 3e-39.
SG_HD float fast_sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

// log(1 + e^x) to 4 ulp, as far down as e^x is a normal number, and sigmoid(x) to 3 ulp, of one
// exponential: log(1 + y) = 2 artanh(y / (2 + y)) as a series, where adding 1 first would lose a
// small y.
struct SoftplusAndSigmoid {
  float softplus;
  float sigmoid;
};
SG_HD SoftplusAndSigmoid softplus_and_sigmoid(float x) {
  const float magnitude = x < 0.0f ? -x : x;
  const float y = fast_exp(-magnitude);
  const float s = y / (2.0f + y);
  const float s2 = s * s;
  float p = 2.0f / 15.0f;
  p = p * s2 + 2.0f / 13.0f;
  p = p * s2 + 2.0f / 11.0f;
  p = p * s2 + 2.0f / 9.0f;
  p = p * s2 + 2.0f / 7.0f;
  p = p * s2 + 2.0f / 5.0f;
  p = p * s2 + 2.0f / 3.0f;
  const float log1p = p * s2 * s + 2.0f * s;
  const float of_magnitude = 1.0f / (1.0f + y);
  return {(x < 0.0f ? 0.0f : x) + log1p, x < 0.0f ? y * of_magnitude : of_magnitude};
}

// To 1.5 ulp: tanh(x) = 1 - 2 / (e^2x + 1); near 0 an odd polynomial keeps the relative error
// (Cephes tanhf).
SG_HD float fast_tanh(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * x + x;
  const float magnitude = x < 0.0f ? -x : x;
  const float large = 1.0f - 2.0f / (fast_exp(2.0f * magnitude) + 1.0f);
  const float signed_large = x < 0.0f ? -large : large;
  return magnitude < 0.625f ? small : signed_large;
}

}  // namespace sketchgrad::kernels
