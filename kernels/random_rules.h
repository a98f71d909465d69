#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/philox.h"

namespace sketchgrad::kernels {

// ln(x) for finite x >= 2^-126, without branches: x = 2^e m, sqrt(1/2) <= m < sqrt(2), and a
// minimax polynomial for ln m (Cephes logf).
SG_HD float log_positive(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  // Moving the exponent's border from 1 to sqrt(1/2) splits x in one subtraction.
  const uint32_t shifted = bits - 0x3F3504F3u;
  const int32_t exponent = static_cast<int32_t>(shifted) >> 23;
  const uint32_t mantissa_bits = (shifted & 0x007FFFFFu) + 0x3F3504F3u;
  float mantissa;
  std::memcpy(&mantissa, &mantissa_bits, sizeof(mantissa));
  const float e = static_cast<float>(exponent);
  const float r = mantissa - 1.0f;
  const float z = r * r;
  float p = 7.0376836292e-2f;
  p = p * r - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  const float tail = p * r * z - 2.12194440e-4f * e - 0.5f * z;
  return r + tail + 0.693359375f * e;
}

struct SineCosine {
  float sine;
  float cosine;
};

// Sine and cosine of 2 pi * turns for turns in [0, 1), without branches: the nearest quarter turn
// is taken out, polynomials on [-pi/4, pi/4] do the rest (Cephes sinf, cosf).
SG_HD SineCosine sine_cosine_of_turns(float turns) {
  const float quarters = turns * 4.0f;
  const float nearest = nearbyintf(quarters);
  const int32_t quadrant = static_cast<int32_t>(nearest);
  const float x = (quarters - nearest) * 1.57079632679489662f;
  const float z = x * x;
  float s = -1.9515295891e-4f;
  s = s * z + 8.3321608736e-3f;
  s = s * z - 1.6666654611e-1f;
  s = s * z * x + x;
  float c = 2.443315711809948e-5f;
  c = c * z - 1.388731625493765e-3f;
  c = c * z + 4.166664568298827e-2f;
  c = c * z * z - 0.5f * z + 1.0f;
  const bool swap = (quadrant & 1) != 0;
  const float sine = swap ? c : s;
  const float cosine = swap ? s : c;
  return {(quadrant & 2) != 0 ? -sine : sine, ((quadrant + 1) & 2) != 0 ? -cosine : cosine};
}

// A rule makes element `index` from word `word` == index % 4 of the block that holds it.

struct UniformRule {
  float low;
  float range;
  float largest;  // the float below `high`, which rounding could otherwise reach

  SG_HD float operator()(const Philox4& block, int word, int64_t) const {
    const float value = low + range * uniform_from_bits(block.v[word]);
    return value < largest ? value : largest;
  }
};

// Box-Muller: words 0, 1 (and 2, 3) give a radius and an angle, and with them two elements.
struct NormalRule {
  float mean;
  float stddev;

  SG_HD float operator()(const Philox4& block, int word, int64_t) const {
    const int pair = word & 2;
    // All 32 bits, and never 0: the tail ends at sqrt(2 ln 2^33) = 6.8 standard deviations.
    const float u = (static_cast<float>(block.v[pair]) + 0.5f) * (1.0f / 4294967296.0f);
    const float radius = sqrtf(-2.0f * log_positive(u));
    const SineCosine angle = sine_cosine_of_turns(uniform_from_bits(block.v[pair + 1]));
    return mean + stddev * radius * ((word & 1) != 0 ? angle.sine : angle.cosine);
  }
};

struct DropoutRule {
  const float* in;
  uint32_t threshold;  // probability * 2^32: words below it drop their element
  float scale;

  SG_HD float operator()(const Philox4& block, int word, int64_t index) const {
    // Read in any case: a conditional load would keep the loop from being vectorised.
    const float kept = scale * in[index];
    return block.v[word] >= threshold ? kept : 0.0f;
  }
};

// Loop bodies: four elements of one block, and one element of the last, shorter block.
template <class Rule>
struct RandomBlock {
  PhiloxKey key;
  Rule rule;
  float* out;

  SG_HD void operator()(int64_t block) const {
    const Philox4 words = philox(key.seed, key.offset, static_cast<uint64_t>(block));
    const int64_t first = 4 * block;
    const float v0 = rule(words, 0, first), v1 = rule(words, 1, first + 1);
    const float v2 = rule(words, 2, first + 2), v3 = rule(words, 3, first + 3);
    out[first] = v0;
    out[first + 1] = v1;
    out[first + 2] = v2;
    out[first + 3] = v3;
  }
};

template <class Rule>
struct RandomElement {
  PhiloxKey key;
  Rule rule;
  float* out;
  int64_t begin;

  SG_HD void operator()(int64_t i) const {
    const int64_t index = begin + i;
    const Philox4 words = philox(key.seed, key.offset, static_cast<uint64_t>(index / 4));
    out[index] = rule(words, static_cast<int>(index % 4), index);
  }
};

}  // namespace sketchgrad::kernels
