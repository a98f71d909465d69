#pragma once

#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/philox.h"

namespace sketchgrad::kernels {

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
