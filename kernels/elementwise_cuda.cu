#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/elementwise_impl.h"

namespace sketchgrad::kernels::cuda {

void fill(const Exec& exec, float* out, int64_t count, float value) {
  impl::fill(CudaPolicy{exec}, out, count, value);
}

void copy(const Exec& exec, const float* in, float* out, int64_t count) {
  impl::copy(CudaPolicy{exec}, in, out, count);
}

void scale(const Exec& exec, const float* in, float scale, float* out, int64_t count) {
  impl::scale(CudaPolicy{exec}, in, scale, out, count);
}

void scale_by(const Exec& exec, const float* in, const float* factor, float* out, int64_t count) {
  impl::scale_by(CudaPolicy{exec}, in, factor, out, count);
}

void add_scaled(const Exec& exec, const float* in, float scale, float* out, int64_t count) {
  impl::add_scaled(CudaPolicy{exec}, in, scale, out, count);
}

void unary(const Exec& exec, Unary op, const float* in, float* out, int64_t count) {
  impl::unary(CudaPolicy{exec}, op, in, out, count);
}

void unary_backward(const Exec& exec, Unary op, const float* out, const float* grad_out,
                    float* grad_in, int64_t count) {
  impl::unary_backward(CudaPolicy{exec}, op, out, grad_out, grad_in, count);
}

void binary(const Exec& exec, Binary op, const float* a, const float* b, float* out,
            int64_t count) {
  impl::binary(CudaPolicy{exec}, op, a, b, out, count);
}

void add_row(const Exec& exec, Matrix matrix, const float* row) {
  impl::add_row(CudaPolicy{exec}, matrix, row);
}

}  // namespace sketchgrad::kernels::cuda
