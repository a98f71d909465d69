#include "sketchgrad/kernels/softmax.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/softmax_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_state(const char* op, OnlineSoftmax state, int64_t tokens) {
  check_count(op, "tokens", tokens);
  check_array(op, "max", state.max, tokens);
  check_array(op, "sum", state.sum, tokens);
  check_array(op, "target_logit", state.target_logit, tokens);
}

void check_chunk(const char* op, ConstMatrix logits, int64_t vocab_begin, const int32_t* targets,
                 OnlineSoftmax state) {
  check_matrix(op, "logits", logits);
  check_count(op, "vocab_begin", vocab_begin);
  check_array(op, "targets", targets, logits.rows);
  check_state(op, state, logits.rows);
}

}  // namespace

void online_softmax_begin(const Exec& exec, OnlineSoftmax state, int64_t tokens) {
  check_state("online_softmax_begin", state, tokens);
  dispatch(exec, cpu::online_softmax_begin, cuda::online_softmax_begin, state, tokens);
}

void online_softmax_update(const Exec& exec, Matrix logits, const float* bias, int64_t vocab_begin,
                           const int32_t* targets, OnlineSoftmax state) {
  check_chunk("online_softmax_update", logits, vocab_begin, targets, state);
  dispatch(exec, cpu::online_softmax_update, cuda::online_softmax_update, logits, bias, vocab_begin,
           targets, state);
}

void online_softmax_losses(const Exec& exec, OnlineSoftmax state, const int32_t* targets,
                           int64_t tokens, float* losses) {
  check_state("online_softmax_losses", state, tokens);
  check_array("online_softmax_losses", "targets", targets, tokens);
  check_array("online_softmax_losses", "losses", losses, tokens);
  dispatch(exec, cpu::online_softmax_losses, cuda::online_softmax_losses, state, targets, tokens,
           losses);
}

void softmax_cross_entropy_gradient(const Exec& exec, Matrix logits, const float* bias,
                                    int64_t vocab_begin, const int32_t* targets,
                                    OnlineSoftmax state, float scale) {
  check_chunk("softmax_cross_entropy_gradient", logits, vocab_begin, targets, state);
  dispatch(exec, cpu::softmax_cross_entropy_gradient, cuda::softmax_cross_entropy_gradient, logits,
           bias, vocab_begin, targets, state, scale);
}

void take_target_logits(const Exec& exec, Matrix logits, const float* bias, const int32_t* places,
                        const float* offsets, OnlineSoftmax state) {
  check_chunk("take_target_logits", logits, 0, places, state);
  dispatch(exec, cpu::take_target_logits, cuda::take_target_logits, logits, bias, places, offsets,
           state);
}

void add_target_logits(const Exec& exec, const int32_t* places, int64_t tokens,
                       OnlineSoftmax state) {
  check_state("add_target_logits", state, tokens);
  check_array("add_target_logits", "places", places, tokens);
  dispatch(exec, cpu::add_target_logits, cuda::add_target_logits, places, tokens, state);
}

void put_target_gradients(const Exec& exec, Matrix gradient, const int32_t* places,
                          OnlineSoftmax state, float scale) {
  check_chunk("put_target_gradients", gradient, 0, places, state);
  dispatch(exec, cpu::put_target_gradients, cuda::put_target_gradients, gradient, places, state,
           scale);
}

}  // namespace sketchgrad::kernels
