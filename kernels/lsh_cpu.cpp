#include <algorithm>

#include "sketchgrad/kernels/lsh_impl.h"

namespace sketchgrad::kernels::cpu {

void row_norms(const Exec&, ConstMatrix rows, float* out) {
  impl::row_norms(TbbPolicy{}, rows, out);
}

void simhash_codes(const Exec&, ConstMatrix projections, int tables, int bits, int32_t* codes) {
  impl::simhash_codes(TbbPolicy{}, projections, tables, bits, codes);
}

void wta_codes(const Exec&, ConstMatrix rows, WtaShape shape, const int32_t* columns,
               int32_t* codes) {
  impl::wta_codes(TbbPolicy{}, rows, shape, columns, codes);
}

namespace {

constexpr int64_t kPiece = 512;

// The collisions of one token with `count` columns. Each step is a loop of its own over a piece
// that stays in the first-level cache, so that all are vectorised: inside one loop over columns,
// the compiler would not turn those over tables and exponents. The formulas are those of
// lsh_rules.h.
struct CollisionPiece {
  int32_t same[kPiece];
  float base[kPiece];
  float result[kPiece];

  void find_same(const int32_t* token_codes, const int32_t* row_codes, int64_t stride, int tables,
                 int64_t count) {
    std::fill_n(same, count, 0);
    for (int l = 0; l < tables; ++l) {
      const int32_t code = token_codes[l];
      const int32_t* const codes = row_codes + l * stride;
#pragma omp simd
      for (int64_t c = 0; c < count; ++c) same[c] |= codes[c] == code ? 1 : 0;
    }
  }
  // combine_events of `base`, into `result`.
  template <class Combine>
  void combine_events(const Combine& combine, int events, int64_t count) {
    std::fill_n(result, count, Combine::kNeutral);
    for (; events > 0; events >>= 1) {
      if (events & 1) {
#pragma omp simd
        for (int64_t c = 0; c < count; ++c) result[c] = combine(result[c], base[c]);
      }
#pragma omp simd
      for (int64_t c = 0; c < count; ++c) base[c] = combine(base[c], base[c]);
    }
  }
  void find_probabilities(const float* dots, const float* row_norms, float norm, int tables,
                          int bits, int64_t count) {
#pragma omp simd
    for (int64_t c = 0; c < count; ++c) {
      base[c] = simhash_agreement(cosine_of(dots[c], norm * row_norms[c]));
    }
    combine_events(BothHappen{}, bits, count);
    std::copy_n(result, count, base);
    combine_events(EitherHappens{}, tables, count);
  }
};

}  // namespace

void weigh_collisions(const Exec&, Matrix logits, const CollisionWeights& weights) {
  for_each_range(TbbPolicy{}, logits.rows, 4, [&](int64_t begin, int64_t end) {
    CollisionPiece piece;
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t first = 0; first < logits.cols; first += kPiece) {
        const int64_t count = std::min(kPiece, logits.cols - first);
        float* const row = logits.row(t) + first;
        piece.find_same(weights.token_codes + t * weights.tables, weights.row_codes + first,
                        logits.cols, weights.tables, count);
        piece.find_probabilities(row, weights.row_norms + first, weights.token_norms[t],
                                 weights.tables, weights.bits, count);
#pragma omp simd
        for (int64_t c = 0; c < count; ++c) {
          const float weighed = weighed_logit(row[c], piece.result[c], weights.log_share);
          row[c] = piece.same[c] != 0 ? weighed : -INFINITY;
        }
      }
    }
  });
}

}  // namespace sketchgrad::kernels::cpu
