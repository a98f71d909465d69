#include "sketchgrad/kernels/softmax_cpu_rows.h"
#include "sketchgrad/kernels/softmax_impl.h"

namespace sketchgrad::kernels::cpu {

void online_softmax_begin(const Exec&, OnlineSoftmax state, int64_t tokens) {
  impl::online_softmax_begin(TbbPolicy{}, state, tokens);
}

void online_softmax_update(const Exec&, Matrix logits, const float* bias, int64_t vocab_begin,
                           const int32_t* targets, OnlineSoftmax state) {
  impl::online_softmax_update(TbbPolicy{}, logits, bias, vocab_begin, targets, state);
}

void online_softmax_losses(const Exec&, OnlineSoftmax state, const int32_t* targets, int64_t tokens,
                           float* losses) {
  impl::online_softmax_losses(TbbPolicy{}, state, targets, tokens, losses);
}

void softmax_cross_entropy_gradient(const Exec&, Matrix logits, const float* bias,
                                    int64_t vocab_begin, const int32_t* targets,
                                    OnlineSoftmax state, float scale) {
  impl::softmax_cross_entropy_gradient(TbbPolicy{}, logits, bias, vocab_begin, targets, state,
                                       scale);
}

void take_target_logits(const Exec&, Matrix logits, const float* bias, const int32_t* places,
                        const float* offsets, OnlineSoftmax state) {
  impl::take_target_logits(TbbPolicy{}, logits, bias, places, offsets, state);
}

void add_target_logits(const Exec&, const int32_t* places, int64_t tokens, OnlineSoftmax state) {
  impl::add_target_logits(TbbPolicy{}, places, tokens, state);
}

void put_target_gradients(const Exec&, Matrix gradient, const int32_t* places, OnlineSoftmax state,
                          float scale) {
  impl::put_target_gradients(TbbPolicy{}, gradient, places, state, scale);
}

}  // namespace sketchgrad::kernels::cpu
