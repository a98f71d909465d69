#pragma once

#include <cmath>
#include <cstdint>

#include "sketchgrad/kernels/lsh.h"
#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/philox.h"

namespace sketchgrad::kernels {

// 1 - acos(cosine) / pi: acos by Abramowitz and Stegun 4.4.45, to 7e-5.
SG_HD float simhash_agreement(float cosine) {
  const float x = cosine < 0.0f ? -cosine : cosine;
  const float at_most_1 = x < 1.0f ? x : 1.0f;
  float p = -0.0187293f;
  p = p * at_most_1 + 0.0742610f;
  p = p * at_most_1 - 0.2121144f;
  p = p * at_most_1 + 1.5707288f;
  const float angle = p * sqrtf(1.0f - at_most_1) * 0.318309886f;  // over pi, of |cosine|
  return cosine < 0.0f ? angle : 1.0f - angle;
}

SG_HD float integer_power(float base, int exponent) {
  float result = 1.0f;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

// Of two vectors: that none of `tables` codes of `bits` bits is the same.
SG_HD float simhash_miss(float dot, float norms, int tables, int bits) {
  const float cosine = norms > 0.0f ? dot / norms : 0.0f;
  return integer_power(1.0f - integer_power(simhash_agreement(cosine), bits), tables);
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

// Element: column.
struct MultiplyMisses {
  ConstMatrix dots;
  const float* token_norms;
  const float* row_norms;
  int tables;
  int bits;
  float* product;
  SG_HD void operator()(int64_t c) const {
    float all = product[c];
    for (int64_t t = 0; t < dots.rows; ++t) {
      all *= simhash_miss(dots(t, c), token_norms[t] * row_norms[c], tables, bits);
    }
    product[c] = all;
  }
};

}  // namespace sketchgrad::kernels
