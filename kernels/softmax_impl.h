#pragma once

#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/kernels/softmax_rules.h"

namespace sketchgrad::kernels {

// The device bodies behind softmax.h. Requires what softmax.cpp has checked.
namespace cpu {
void online_softmax_begin(const Exec&, OnlineSoftmax, int64_t tokens);
void online_softmax_update(const Exec&, Matrix logits, const float* bias, int64_t vocab_begin,
                           const int32_t* targets, OnlineSoftmax);
void online_softmax_losses(const Exec&, OnlineSoftmax, const int32_t* targets, int64_t tokens,
                           float* losses);
void softmax_cross_entropy_gradient(const Exec&, Matrix logits, const float* bias,
                                    int64_t vocab_begin, const int32_t* targets, OnlineSoftmax,
                                    float scale);
void take_target_logits(const Exec&, Matrix logits, const float* bias, const int32_t* places,
                        const float* offsets, OnlineSoftmax);
void add_target_logits(const Exec&, const int32_t* places, int64_t tokens, OnlineSoftmax);
void put_target_gradients(const Exec&, Matrix gradient, const int32_t* places, OnlineSoftmax,
                          float scale);
}  // namespace cpu
namespace cuda {
void online_softmax_begin(const Exec&, OnlineSoftmax, int64_t tokens);
void online_softmax_update(const Exec&, Matrix logits, const float* bias, int64_t vocab_begin,
                           const int32_t* targets, OnlineSoftmax);
void online_softmax_losses(const Exec&, OnlineSoftmax, const int32_t* targets, int64_t tokens,
                           float* losses);
void softmax_cross_entropy_gradient(const Exec&, Matrix logits, const float* bias,
                                    int64_t vocab_begin, const int32_t* targets, OnlineSoftmax,
                                    float scale);
void take_target_logits(const Exec&, Matrix logits, const float* bias, const int32_t* places,
                        const float* offsets, OnlineSoftmax);
void add_target_logits(const Exec&, const int32_t* places, int64_t tokens, OnlineSoftmax);
void put_target_gradients(const Exec&, Matrix gradient, const int32_t* places, OnlineSoftmax,
                          float scale);
}  // namespace cuda

namespace impl {

template <class Policy>
void online_softmax_begin(const Policy& policy, OnlineSoftmax state, int64_t tokens) {
  for_each(policy, tokens, BeginSoftmax{state});
}

template <class Policy>
void online_softmax_losses(const Policy& policy, OnlineSoftmax state, const int32_t* targets,
                           int64_t tokens, float* losses) {
  for_each(policy, tokens, SoftmaxLoss{state, targets, losses});
}

template <class Policy>
void softmax_cross_entropy_gradient(const Policy& policy, Matrix logits, const float* bias,
                                    int64_t vocab_begin, const int32_t* targets,
                                    OnlineSoftmax state, float scale) {
  if (bias != nullptr) {
    for_each_row(policy, logits.rows, logits.cols,
                 SoftmaxProbability<true>{logits, bias, targets, state, scale});
  } else {
    for_each_row(policy, logits.rows, logits.cols,
                 SoftmaxProbability<false>{logits, bias, targets, state, scale});
  }
  for_each(policy, logits.rows, SoftmaxTargetGradient{logits, vocab_begin, targets, scale});
}

template <class Policy>
void take_target_logits(const Policy& policy, Matrix logits, const float* bias,
                        const int32_t* places, const float* offsets, OnlineSoftmax state) {
  for_each(policy, logits.rows, TakeTargetLogit{logits, bias, places, offsets, state});
}

template <class Policy>
void add_target_logits(const Policy& policy, const int32_t* places, int64_t tokens,
                       OnlineSoftmax state) {
  for_each(policy, tokens, AddTargetLogit{places, state});
}

template <class Policy>
void put_target_gradients(const Policy& policy, Matrix gradient, const int32_t* places,
                          OnlineSoftmax state, float scale) {
  for_each(policy, gradient.rows, PutTargetGradient{gradient, places, state, scale});
}

}  // namespace impl
}  // namespace sketchgrad::kernels
