#pragma once

#include <cstdint>

#include "sketchgrad/kernels/philox.h"
#include "sketchgrad/kernels/update_rules.h"
#include "sketchgrad/kernels/views.h"

// The count-sketch tensor (Spring et al. 2019, Algorithm 1; Charikar et al. 2002): cells
// S[depth, width, D]; row i of the table lives, with sign s_j(i), in bucket h_j(i) of each depth j.
namespace sketchgrad::kernels {

inline constexpr int kMaxSketchDepth = 8;

struct SketchView {
  float* cells = nullptr;  // [depth, width, dim]
  int32_t depth = 0;
  int64_t width = 0;
  int64_t dim = 0;
  int64_t stride = 0;  // floats from one bucket to the next; dim of the whole table

  SG_HD float* bucket(int64_t depth_index, int64_t b) const {
    return cells + (depth_index * width + b) * stride;
  }
  SG_HD SketchView columns(int64_t begin, int64_t count) const {
    return {cells + begin, depth, width, count, stride};
  }
};

// Where a row lives in one depth: the bucket in the low 31 bits, the sign (1: negative) in the top
// bit.
using Slot = uint32_t;
inline constexpr Slot kSlotSign = 0x80000000u;
SG_HD int64_t slot_bucket(Slot slot) { return slot & ~kSlotSign; }
SG_HD float slot_sign(Slot slot) { return (slot & kSlotSign) != 0 ? -1.0f : 1.0f; }

// Hash family: 64 random bits a (seed, depth, row); the high half picks the bucket by
// multiplication (Lemire 2019), so halving an even width maps bucket b to b / 2 and sketches can be
// folded; the lowest bit is the sign.
SG_HD Slot sketch_slot(uint64_t seed, int depth_index, int64_t row, int64_t width) {
  const Philox4 bits = philox(seed, static_cast<uint64_t>(depth_index), static_cast<uint64_t>(row));
  const uint64_t bucket = (uint64_t{bits.v[0]} * static_cast<uint64_t>(width)) >> 32;
  return static_cast<Slot>(bucket) | ((bits.v[1] & 1u) << 31);
}

// How the depths' readings of one element become one estimate.
enum class Combine : uint8_t { median, minimum, mean };

SG_HD float combine_median3(float a, float b, float c) {
  const float low = a < b ? a : b;
  const float high = a < b ? b : a;
  const float upper = high < c ? high : c;
  return low > upper ? low : upper;
}

// Median of n <= kMaxSketchDepth values (mean of the middle two for even n). Sorts `v`.
SG_HD float combine_median(float* v, int n) {
  for (int i = 1; i < n; ++i) {
    const float value = v[i];
    int j = i;
    for (; j > 0 && v[j - 1] > value; --j) v[j] = v[j - 1];
    v[j] = value;
  }
  return n % 2 == 1 ? v[n / 2] : 0.5f * (v[n / 2 - 1] + v[n / 2]);
}

// The noise that an estimate must exceed, in multiples of its own variance. The positive-part
// James-Stein factor has 1, for independent columns; those of a gradient move together, so that the
// depths agree by chance more often than that.
inline constexpr float kTrustMargin = 3.0f;

// How much of an estimate to keep, from the variance that its readings show and its power
// (James & Stein 1961, positive part). Readings in full agreement are trusted fully, zeros
// included.
SG_HD float james_stein_trust(float noise, float power) {
  if (!(noise > 0.0f)) return 1.0f;
  const float trust = 1.0f - kTrustMargin * noise / power;
  return trust > 0.0f ? trust : 0.0f;
}

// How a bucket takes in this step's rows. With k rows of old estimates e_i and inputs u_i in it:
//   S <- max(floor, (1 + k * cell_decay) S + weight * sum_i s_i (estimate_weight_i e_i +
//   input_weight_i u_i)),
// weight = 1 / k for means, else 1. The sum runs in order of row. Every reading is a choice of
// these.
struct SketchWrite {
  RowCoefficient estimate_weight;
  RowCoefficient input_weight;
  float cell_decay = 0;
  bool mean = false;
  bool clamp_at_zero = false;  // count-min: signed changes of an average may not take it below 0
  Accumulate accumulate;       // only its input() is used
};

}  // namespace sketchgrad::kernels
