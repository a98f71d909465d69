#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/multi_label_impl.h"
#include "sketchgrad/kernels/multi_label_lanes.h"

namespace sketchgrad::kernels::cuda {

void take_label_logits(const Exec& exec, ConstMatrix logits, const float* bias,
                       const CsrMatrix& labels, float* sums) {
  impl::take_label_logits(CudaPolicy{exec}, logits, bias, labels, sums);
}

void subtract_labels(const Exec& exec, const CsrMatrix& labels, float scale, Matrix gradient) {
  impl::subtract_labels(CudaPolicy{exec}, labels, scale, gradient);
}

void sigmoid_cross_entropy(const Exec& exec, Matrix logits, const float* bias, float scale,
                           float* sums) {
  sigmoid_cross_entropy_by_lanes(CudaPolicy{exec}, exec, logits, bias, scale, sums);
}

}  // namespace sketchgrad::kernels::cuda
