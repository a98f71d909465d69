#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

// Softmax cross-entropy in pieces, so that a layer can walk tokens x vocabulary in chunks that are
// never held in full. For token t with logits l over the vocabulary V and target y:
//   loss_t = log(sum_v exp(l_v)) - l_y,   d loss_t / d l_v = exp(l_v) / sum exp - [v == y].
namespace sketchgrad::kernels {

inline constexpr int32_t kIgnoredTarget = -1;

// Running log-sum-exp of each token over the vocabulary chunks seen so far.
struct OnlineSoftmax {
  float* max = nullptr;           // [tokens], starts at -infinity
  float* sum = nullptr;           // [tokens], sum of exp(l - max), starts at 0
  float* target_logit = nullptr;  // [tokens], -infinity until the target's chunk passes
};

void online_softmax_begin(const Exec&, OnlineSoftmax, int64_t tokens);

// Takes in the chunk logits [tokens, chunk] of vocabulary ids vocab_begin ... vocab_begin + chunk
// - 1. `bias` [chunk] is added to the logits in place first; null for none.
void online_softmax_update(const Exec&, Matrix logits, const float* bias, int64_t vocab_begin,
                           const int32_t* targets, OnlineSoftmax);

// losses[t] = loss of token t, 0 where targets[t] == kIgnoredTarget.
void online_softmax_losses(const Exec&, OnlineSoftmax, const int32_t* targets, int64_t tokens,
                           float* losses);

// In place: logits -> scale * d loss_t / d logit (0 for ignored tokens). `bias` is added first
// where not null (pass null if the chunk already holds it).
void softmax_cross_entropy_gradient(const Exec&, Matrix logits, const float* bias,
                                    int64_t vocab_begin, const int32_t* targets, OnlineSoftmax,
                                    float scale);

// Softmaxes over candidates: chunks hold logits of some classes, and a token's target stands in
// column places[t] of its row (kIgnoredTarget: none) with a weight of its own. It is taken out of
// the row before the others are summed, and put back as a gradient:
//   take_target_logits, online_softmax_update, add_target_logits, then
//   softmax_cross_entropy_gradient, put_target_gradients,
// where the update and the gradient get `places` as targets and logits.cols as vocab_begin, so that
// no column of theirs is a target's.

// target_logit[t] = logits(t, places[t]) + bias[places[t]] - offsets[t]; -infinity takes its place
// in the row. Shapes: bias [logits.cols] or null, offsets [tokens] or null.
void take_target_logits(const Exec&, Matrix logits, const float* bias, const int32_t* places,
                        const float* offsets, OnlineSoftmax);
// Takes target_logit into the log-sum-exp of each token that has a target.
void add_target_logits(const Exec&, const int32_t* places, int64_t tokens, OnlineSoftmax);
// gradient(t, places[t]) = scale * (exp(target_logit[t]) / sum exp - 1).
void put_target_gradients(const Exec&, Matrix gradient, const int32_t* places, OnlineSoftmax,
                          float scale);

}  // namespace sketchgrad::kernels
