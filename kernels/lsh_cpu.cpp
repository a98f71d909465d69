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

// In pieces of columns: first which of them collide, a table after the other, then their weights,
// so that both loops are vectorised.
void weigh_collisions(const Exec&, Matrix logits, const CollisionWeights& weights) {
  constexpr int64_t kColumns = 512;
  for_each_range(TbbPolicy{}, logits.rows, 4, [&](int64_t begin, int64_t end) {
    int32_t same[kColumns];
    for (int64_t t = begin; t < end; ++t) {
      const float norm = weights.token_norms[t];
      for (int64_t first = 0; first < logits.cols; first += kColumns) {
        const int64_t count = std::min(kColumns, logits.cols - first);
        std::fill_n(same, count, 0);
        for (int l = 0; l < weights.tables; ++l) {
          const int32_t code = weights.token_codes[t * weights.tables + l];
          const int32_t* const codes = weights.row_codes + l * logits.cols + first;
#pragma omp simd
          for (int64_t c = 0; c < count; ++c) same[c] |= codes[c] == code ? 1 : 0;
        }
        float* const row = logits.row(t) + first;
        const float* const norms = weights.row_norms + first;
#pragma omp simd
        for (int64_t c = 0; c < count; ++c) {
          const float weighed = collision_logit(row[c], norm * norms[c], weights.tables,
                                                weights.bits, weights.log_share);
          row[c] = same[c] != 0 ? weighed : -INFINITY;
        }
      }
    }
  });
}

}  // namespace sketchgrad::kernels::cpu
