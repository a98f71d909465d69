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

// Tokens outside, columns inside, so that the loop over columns is vectorised; the order of the
// factors is that of MultiplyMisses.
void multiply_misses(const Exec&, ConstMatrix dots, const float* token_norms,
                     const float* row_norms, int tables, int bits, float* product) {
  constexpr int64_t kColumns = 256;
  for_each_range(TbbPolicy{}, dots.cols, kColumns, [=](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < dots.rows; ++t) {
      const float* const dot = dots.row(t);
      const float norm = token_norms[t];
#pragma omp simd
      for (int64_t c = begin; c < end; ++c) {
        product[c] *= simhash_miss(dot[c], norm * row_norms[c], tables, bits);
      }
    }
  });
}

}  // namespace sketchgrad::kernels::cpu
