#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/softmax_impl.h"
#include "sketchgrad/kernels/softmax_lanes.h"

namespace sketchgrad::kernels::cuda {

void online_softmax_begin(const Exec& exec, OnlineSoftmax state, int64_t tokens) {
  impl::online_softmax_begin(CudaPolicy{exec}, state, tokens);
}

void online_softmax_update(const Exec& exec, Matrix logits, const float* bias, int64_t vocab_begin,
                           const int32_t* targets, OnlineSoftmax state) {
  online_softmax_update_by_lanes(CudaPolicy{exec}, exec, logits, bias, vocab_begin, targets, state);
}

void online_softmax_losses(const Exec& exec, OnlineSoftmax state, const int32_t* targets,
                           int64_t tokens, float* losses) {
  impl::online_softmax_losses(CudaPolicy{exec}, state, targets, tokens, losses);
}

void softmax_cross_entropy_gradient(const Exec& exec, Matrix logits, const float* bias,
                                    int64_t vocab_begin, const int32_t* targets,
                                    OnlineSoftmax state, float scale) {
  impl::softmax_cross_entropy_gradient(CudaPolicy{exec}, logits, bias, vocab_begin, targets, state,
                                       scale);
}

}  // namespace sketchgrad::kernels::cuda
