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

void weigh_collisions(const Exec& exec, Matrix logits, const CollisionWeights& weights) {
  impl::weigh_collisions(CudaPolicy{exec}, logits, weights);
}

}  // namespace sketchgrad::kernels::cuda
