#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/lsh_impl.h"

namespace sketchgrad::kernels::cuda {

void row_norms(const Exec& exec, ConstMatrix rows, float* out) {
  impl::row_norms(CudaPolicy{exec}, rows, out);
}

void simhash_codes(const Exec& exec, ConstMatrix projections, int tables, int bits,
                   int32_t* codes) {
  impl::simhash_codes(CudaPolicy{exec}, projections, tables, bits, codes);
}

void wta_codes(const Exec& exec, ConstMatrix rows, WtaShape shape, const int32_t* columns,
               int32_t* codes) {
  impl::wta_codes(CudaPolicy{exec}, rows, shape, columns, codes);
}

void multiply_misses(const Exec& exec, ConstMatrix dots, const float* token_norms,
                     const float* row_norms, int tables, int bits, float* product) {
  impl::multiply_misses(CudaPolicy{exec}, dots, token_norms, row_norms, tables, bits, product);
}

}  // namespace sketchgrad::kernels::cuda
