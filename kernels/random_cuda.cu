#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/random_impl.h"

namespace sketchgrad::kernels::cuda {

void fill_uniform(const Exec& exec, PhiloxKey key, UniformRule rule, float* out, int64_t count) {
  impl::random_array(CudaPolicy{exec}, key, rule, out, count);
}

void dropout(const Exec& exec, PhiloxKey key, DropoutRule rule, float* out, int64_t count) {
  impl::random_array(CudaPolicy{exec}, key, rule, out, count);
}

}  // namespace sketchgrad::kernels::cuda
