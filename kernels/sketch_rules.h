#pragma once

#include <cstdint>

#include "sketchgrad/kernels/low_precision_rules.h"
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
  int64_t stride = 0;  // cells from one bucket to the next; dim of the whole table
  // In the place of `cells`: the upper halves of floats, rounded stochastically by random bits of
  // (rounding, bucket, column of the table).
  uint16_t* bf16 = nullptr;
  RoundingKey rounding = {};
  int64_t begin = 0;  // the first column

  SG_HD int64_t place(int64_t depth_index, int64_t b) const { return depth_index * width + b; }
  SG_HD float* bucket(int64_t depth_index, int64_t b) const {
    return cells + place(depth_index, b) * stride;
  }
  SG_HD uint16_t* bf16_bucket(int64_t depth_index, int64_t b) const {
    return bf16 + place(depth_index, b) * stride;
  }
  // One cell, as a float.
  SG_HD float load(int64_t bucket_place, int64_t column) const {
    const int64_t at = bucket_place * stride + column;
    return bf16 != nullptr ? bf16_to_float<float>(uint32_t{bf16[at]}) : cells[at];
  }
  SG_HD void store(int64_t bucket_place, int64_t column, float value) const {
    const int64_t at = bucket_place * stride + column;
    if (bf16 == nullptr) {
      cells[at] = value;
    } else {
      const uint32_t random =
          rounding.row(bucket_place).bits(static_cast<uint32_t>(begin + column));
      bf16[at] = static_cast<uint16_t>(float_to_bf16(value, random));
    }
  }
  SG_HD SketchView columns(int64_t first, int64_t count) const {
    SketchView result = *this;
    if (bf16 != nullptr) result.bf16 = bf16 + first;
    if (cells != nullptr) result.cells = cells + first;
    result.dim = count;
    result.begin = begin + first;
    return result;
  }
};

// Where a row lives in one depth: the bucket in the low 31 bits, the sign (1: negative) in the top
// bit.
using Slot = uint32_t;
inline constexpr Slot kSlotSign = 0x80000000u;
SG_HD int64_t slot_bucket(Slot slot) { return slot & ~kSlotSign; }
SG_HD float slot_sign(Slot slot) { return (slot & kSlotSign) != 0 ? -1.0f : 1.0f; }

// Tables are hashed by blocks of rows where the sketch has buckets enough: the rows of a block lie
// in one block of buckets, rotated by a random offset. Steps with many active rows then find their
// buckets side by side in memory. Two rows of different blocks share a bucket with probability
// 1 / width as ever (of a width that is no multiple of 32 the rest is not used), two of one block
// never do.
inline constexpr int kHashBlockBits = 5;
inline constexpr int64_t kHashBlock = 1 << kHashBlockBits;
inline constexpr int64_t kBlockedWidth = 1024;
// Of the buckets that rows come to together, 2^bits of them: a block, or one.
SG_HD int hash_unit_bits(int64_t width) { return width >= kBlockedWidth ? kHashBlockBits : 0; }

// Hash family: random bits (Philox) for a (seed, depth, row), or a (seed, depth, block). The first
// word picks the bucket, or the block of buckets, by multiplication (Lemire 2019), so that halving
// an even number of them maps b to b / 2. A sign is one random bit. Of a blocked width, what is
// left by division by 32 stays unused.
SG_HD Slot sketch_slot(uint64_t seed, int depth_index, int64_t row, int64_t width) {
  const int unit_bits = hash_unit_bits(width);
  const uint32_t unit_mask = (1u << unit_bits) - 1u;
  const Philox4 bits =
      philox(seed, static_cast<uint64_t>(depth_index), static_cast<uint64_t>(row) >> unit_bits);
  const uint64_t place = (uint64_t{bits.v[0]} * (static_cast<uint64_t>(width) >> unit_bits)) >> 32;
  const uint32_t member = static_cast<uint32_t>(row) & unit_mask;
  const uint32_t rotated = (member + bits.v[2]) & unit_mask;
  const uint32_t sign = (bits.v[1] >> member) & 1u;
  return (static_cast<Slot>(place) << unit_bits | rotated) | (sign << 31);
}

// How rows come to buckets: by a hash family, or in bands, where rows that are neighbours in an
// order share a bucket: those of like frequency, where the order is by falling count. Bands have
// signs of the family and the same bucket in each depth.
//
// Halving the buckets, or blocks of them, sends each pair of neighbours to one; the last of an odd
// number stays alone. Where the halved width hashes rows just so of itself, it is a width like any
// other; elsewhere rows go on by the width that the sketch was made with, and `folds` counts.
struct RowHash {
  uint64_t seed = 0;
  int64_t band_rows = 0;           // of the table, for bands; 0: hashed
  const int32_t* ranks = nullptr;  // [band_rows]: places of the rows in the order; null: the ids
  int64_t made_width = 0;          // of the sketch before `folds`; 0: it has none
  int32_t folds = 0;

  SG_HD int unit_bits(int64_t width) const {
    return band_rows == 0 ? hash_unit_bits(folds > 0 ? made_width : width) : 0;
  }
  SG_HD Slot slot(int depth_index, int64_t row, int64_t width) const {
    if (folds == 0) return made_slot(depth_index, row, width);
    const Slot made = made_slot(depth_index, row, made_width);
    const int bits = unit_bits(width);
    const auto bucket = static_cast<Slot>(slot_bucket(made));
    const Slot member = bucket & ((Slot{1} << bits) - 1u);
    return (bucket >> bits >> folds << bits) | member | (made & kSlotSign);
  }

 private:
  SG_HD Slot made_slot(int depth_index, int64_t row, int64_t width) const {
    if (band_rows == 0) return sketch_slot(seed, depth_index, row, width);
    const int64_t place = ranks != nullptr && row >= 0 ? ranks[row] : row;
    const uint32_t sign =
        philox_bits({seed, static_cast<uint64_t>(depth_index)}, static_cast<uint64_t>(place)) >> 31;
    return static_cast<Slot>(place * width / band_rows) | (sign << 31);
  }
};

// How the depths' readings of one element become one estimate.
enum class Combine : uint8_t { median, minimum, mean };

// Median of n values (mean of the middle two for even n). T: a float, or floats side by side.
template <class T, int n>
SG_HD T combine_median(const T (&values)[n]) {
  T v[n];
  for (int i = 0; i < n; ++i) v[i] = values[i];
  if constexpr (n == 3) {
    const T low = v[0] < v[1] ? v[0] : v[1];
    const T high = v[0] < v[1] ? v[1] : v[0];
    const T upper = high < v[2] ? high : v[2];
    return low > upper ? low : upper;
  } else {
    // Exchanges of neighbours, whatever the values: the same for all that stand side by side.
    for (int last = n - 1; last > 0; --last) {
      for (int i = 0; i < last; ++i) {
        const T low = v[i + 1] < v[i] ? v[i + 1] : v[i];
        const T high = v[i + 1] < v[i] ? v[i] : v[i + 1];
        v[i] = low;
        v[i + 1] = high;
      }
    }
    return n % 2 == 1 ? v[n / 2] : 0.5f * (v[n / 2 - 1] + v[n / 2]);
  }
}

// How the active rows weigh what they read. With x <- gamma x + c u the exact rule, e the estimate
// and u the input, the new value is x = decay e + scale u:
enum class RowWeights : uint8_t {
  constant,   // decay = gamma, scale = c
  by_depths,  // decay = trust gamma, scale = c + (1 - trust) gamma previous_mass; trust from
              // the disagreement of the depths (depth_trust)
  by_power,   // the same with the trust of a Wiener filter (wiener_trust), from the power of x that
              // is tracked with the row
  by_scale,   // the sketch holds shapes, the scale is kept with the row (shape_weights)
};
// previous_mass is the sum of the weights that the exact rule has given to all inputs one step
// earlier. So each gradient keeps its full weight over time, whatever the sketch forgets: at trust
// 1 this is the exact rule, at trust 0 the rule without memory.

// Rows are weighed by pieces of columns: of about 64, so that threads can share rows; of more where
// a row would have over four pieces, so that what is kept with rows stays little; never of more
// than 512.
inline constexpr int64_t kPieceColumns = 64;
inline constexpr int64_t kPiecesOfRow = 4;
inline constexpr int64_t kWidestPiece = 512;

// The noise that an estimate must exceed in by_depths, in multiples of its own variance. The
// positive-part James-Stein factor has 1, for independent columns; those of a gradient move
// together, so that the depths agree by chance more often than that.
inline constexpr float kTrustMargin = 3.0f;

// How far to trust the median e of v independent readings e_j, whose disagreement measures what
// collisions did to them (James & Stein 1961, positive part). With their mean a,
//   noise = sum_j |e_j - a|^2 / (v (v - 1)),   power = |e|^2,
//   trust = clamp(1 - kTrustMargin * noise / power, 0, 1).
// Readings in full agreement are trusted fully, zeros included.
SG_HD float depth_trust(float noise, float power) {
  if (noise == 0.0f) return 1.0f;
  const float trust = 1.0f - kTrustMargin * noise / power;
  return trust > 0.0f ? trust : 0.0f;
}

// The share of a reading of power |e|^2 that is signal, when the signal's power is known (Wiener
// 1949): min(1, row_power / |e|^2).
SG_HD float wiener_trust(float row_power, float reading_power) {
  return row_power < reading_power ? row_power / reading_power : 1.0f;
}
// |gamma x + c u|^2 from row_power = |x|^2, with trust <e, u> for <x, u>.
SG_HD float wiener_power(float row_power, const Accumulate& rule, float trust, float cross,
                         float input_power) {
  const float power = rule.decay * rule.decay * row_power +
                      2.0f * rule.decay * rule.scale * trust * cross +
                      rule.scale * rule.scale * input_power;
  return power > 0.0f ? power : 0.0f;
}

// Weights of a sketch of shapes. With the row's piece goes its scale rho, which follows the mean
// input; a bucket holds a sum of its rows' inputs, each divided by its mean, and what it reads
// relative to its own mean is the shape that its rows have in common:
//   new value = gamma rho e / mean(e) + c u,   the bucket takes u / mean(u).
struct ShapeWeights {
  float decay;  // gamma rho / mean(e)
  float flat;   // gamma rho where the bucket holds no shape, else 0: the same for all columns
  float input_weight;  // 1 / mean(u), or 0 where there is no input
};
// Advances rho.
SG_HD ShapeWeights shape_weights(float& rho, const Accumulate& rule, float mean_input,
                                 float mean_estimate) {
  constexpr float kSmallest = 1e-35f;  // so that inverses stay finite
  const float kept = rule.decay * rho;
  rho = kept + rule.scale * mean_input;
  const bool has_shape = mean_estimate > kSmallest;
  return {has_shape ? kept / mean_estimate : 0.0f, has_shape ? 0.0f : kept,
          mean_input > kSmallest ? 1.0f / mean_input : 0.0f};
}

// What a step does with a sketch; every reading (optim/memory_spec.h) is a choice of these. With
// the estimate e_i of active row i from the sketch as it was before the step, its input u_i (g or
// g^2), and the k active rows of a bucket:
//   S <- max(floor, (cell_keep + k * cell_decay) S + weight * sum_i s_i (estimate_weight e_i +
//   input_weight u_i)),   weight = 1 / k for means, else 1, the sum in order of row.
struct SketchStep {
  Accumulate accumulate{};  // the exact rule
  Combine combine = Combine::median;
  bool with_signs = false;
  float cell_scale = 1.0f;  // estimates are this times the cells
  float estimate_weight = 0.0f;
  float input_weight = 0.0f;
  float cell_keep = 1.0f;
  float cell_decay = 0.0f;
  bool mean = false;
  bool clamp_at_zero = false;  // floor 0: signed changes of an average may not take it below
  RowWeights rows = RowWeights::constant;  // by_depths: depth >= 2
  float previous_mass = 0.0f;
  bool requery = false;  // rows read the sketch again after the step; RowWeights::constant
};

}  // namespace sketchgrad::kernels
