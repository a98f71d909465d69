#pragma once

#include <cmath>
#include <cstdint>

#include "sketchgrad/kernels/lsh.h"
#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/math_rules.h"
#include "sketchgrad/kernels/philox.h"

namespace sketchgrad::kernels {

// 1 - acos(cosine) / pi: acos by Abramowitz and Stegun 4.4.46, to 2e-8 and float's rounding.
SG_HD float simhash_agreement(float cosine) {
  const float x = cosine < 0.0f ? -cosine : cosine;
  const float at_most_1 = x < 1.0f ? x : 1.0f;
  float p = -0.0012624911f;
  p = p * at_most_1 + 0.0066700901f;
  p = p * at_most_1 - 0.0170881256f;
  p = p * at_most_1 + 0.0308918810f;
  p = p * at_most_1 - 0.0501743046f;
  p = p * at_most_1 + 0.0889789874f;
  p = p * at_most_1 - 0.2145988016f;
  p = p * at_most_1 + 1.5707963050f;
  const float angle = p * sqrtf(1.0f - at_most_1) * 0.318309886f;  // over pi, of |cosine|
  return cosine < 0.0f ? angle : 1.0f - angle;
}

// Of independent events with probabilities p and q; the second without the cancellation of
// 1 - (1 - p) (1 - q).
struct BothHappen {
  static constexpr float kNeutral = 1.0f;
  SG_HD float operator()(float p, float q) const { return p * q; }
};
struct EitherHappens {
  static constexpr float kNeutral = 0.0f;
  SG_HD float operator()(float p, float q) const { return p + (q - p * q); }
};

// `count` events of probability p, combined by squaring.
template <class Combine>
SG_HD float combine_events(const Combine& combine, float p, int count) {
  float result = Combine::kNeutral;
  for (; count > 0; count >>= 1) {
    if (count & 1) result = combine(result, p);
    p = combine(p, p);
  }
  return result;
}

SG_HD float cosine_of(float dot, float norms) { return norms > 0.0f ? dot / norms : 0.0f; }

// Of two vectors: that some of `tables` codes of `bits` bits is the same.
SG_HD float simhash_collision(float dot, float norms, int tables, int bits) {
  const float same = combine_events(BothHappen{}, simhash_agreement(cosine_of(dot, norms)), bits);
  return combine_events(EitherHappens{}, same, tables);
}
// Below it a collision is taken for as likely: what little is lost is worth less than the noise of
// huge weights.
inline constexpr float kSmallestCollision = 1e-6f;
SG_HD float weighed_logit(float dot, float collision, float log_share) {
  const float p = collision > kSmallestCollision ? collision : kSmallestCollision;
  return dot - (fast_log(p) + log_share);
}

// ---- Loop bodies for for_each.

// Element: row.
struct RowNorm {
  ConstMatrix rows;
  float* out;
  SG_HD void operator()(int64_t r) const {
    const float* const row = rows.row(r);
    double sum = 0.0;
    for (int64_t c = 0; c < rows.cols; ++c) {
      sum += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    }
    out[r] = static_cast<float>(sqrt(sum));
  }
};

// Element: row x table.
struct PackSigns {
  ConstMatrix projections;
  int tables;
  int bits;
  int32_t* codes;
  SG_HD void operator()(int64_t i) const {
    const float* const columns = projections.row(i / tables) + i % tables * bits;
    int32_t code = 0;
    for (int k = 0; k < bits; ++k) code |= (columns[k] > 0.0f ? 1 : 0) << k;
    codes[i] = code;
  }
};

// Element: row x table.
struct WtaCode {
  ConstMatrix rows;
  WtaShape shape;
  const int32_t* columns;
  int32_t* codes;

  static constexpr int kAttempts = 16;

  // The place of the bin's largest value; -1 where all are 0.
  SG_HD int32_t winner(const float* row, int64_t bin) const {
    const int32_t* const choice = columns + (bin << shape.bin_bits);
    int32_t best = 0;
    bool empty = true;
    for (int32_t i = 0; i < (1 << shape.bin_bits); ++i) {
      const float value = row[choice[i]];
      if (value != 0.0f) empty = false;
      if (value > row[choice[best]]) best = i;
    }
    return empty ? -1 : best;
  }
  SG_HD int32_t hash(const float* row, int64_t bin) const {
    const auto bins = static_cast<uint64_t>(shape.tables) * static_cast<uint64_t>(shape.hashes);
    int32_t found = winner(row, bin);
    for (int attempt = 0; found < 0 && attempt < kAttempts; ++attempt) {
      const Philox4 bits = philox(0, static_cast<uint64_t>(bin), static_cast<uint64_t>(attempt));
      found = winner(row, static_cast<int64_t>((uint64_t{bits.v[0]} * bins) >> 32));
    }
    return found < 0 ? 0 : found;
  }
  SG_HD void operator()(int64_t i) const {
    const float* const row = rows.row(i / shape.tables);
    const int64_t first = i % shape.tables * shape.hashes;
    int32_t code = 0;
    for (int h = 0; h < shape.hashes; ++h) {
      code |= hash(row, first + h) << (h * shape.bin_bits);
    }
    codes[i] = code;
  }
};

// For for_each_row.
struct WeighCollision {
  Matrix logits;
  CollisionWeights weights;
  struct Column {
    float* logits;
    CollisionWeights weights;
    const int32_t* codes;  // of the token
    float norm;
    int64_t cols;
    SG_HD void operator()(int64_t c) const {
      bool same = false;
      for (int l = 0; l < weights.tables; ++l) {
        same = same || weights.row_codes[l * cols + c] == codes[l];
      }
      const float collision =
          simhash_collision(logits[c], norm * weights.row_norms[c], weights.tables, weights.bits);
      logits[c] = same ? weighed_logit(logits[c], collision, weights.log_share) : -INFINITY;
    }
  };
  SG_HD Column operator()(int64_t t) const {
    return {logits.row(t), weights, weights.token_codes + t * weights.tables,
            weights.token_norms[t], logits.cols};
  }
};

}  // namespace sketchgrad::kernels
