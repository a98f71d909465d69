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

void take_target_logits(const Exec& exec, Matrix logits, const float* bias, const int32_t* places,
                        const float* offsets, OnlineSoftmax state) {
  impl::take_target_logits(CudaPolicy{exec}, logits, bias, places, offsets, state);
}

void add_target_logits(const Exec& exec, const int32_t* places, int64_t tokens,
                       OnlineSoftmax state) {
  impl::add_target_logits(CudaPolicy{exec}, places, tokens, state);
}

void put_target_gradients(const Exec& exec, Matrix gradient, const int32_t* places,
                          OnlineSoftmax state, float scale) {
  impl::put_target_gradients(CudaPolicy{exec}, gradient, places, state, scale);
}

}  // namespace sketchgrad::kernels::cuda
