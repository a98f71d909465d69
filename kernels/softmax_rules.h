#pragma once

#include <cmath>
#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/math_rules.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

// What logits are shifted by before exp: their maximum, or 0 where that is -infinity, which would
// turn exp(-inf - max) into NaN.
SG_HD float softmax_shift(float max) { return max == -INFINITY ? 0.0f : max; }

// sum = sum of exp(l - softmax_shift(max)) over some logits l with maximum max.
struct LogSumExp {
  float max = -INFINITY;
  float sum = 0.0f;
};

// Over the logits of both.
SG_HD LogSumExp merge(LogSumExp a, LogSumExp b) {
  const float max = a.max > b.max ? a.max : b.max;
  const float shift = softmax_shift(max);
  return {max, a.sum * fast_exp(a.max - shift) + b.sum * fast_exp(b.max - shift)};
}

// With one more logit. A NaN stays in the sum.
SG_HD LogSumExp add_logit(LogSumExp a, float logit) {
  if (!(logit > a.max)) return {a.max, a.sum + fast_exp(logit - softmax_shift(a.max))};
  return {logit, a.sum * fast_exp(a.max - logit) + fast_exp(logit - logit)};
}

// log(exp(logit) / sum of exp(l)), from log(LogSumExp::sum). The difference of logits comes first:
// log_sum would drown in a large max.
SG_HD float log_probability(float logit, float max, float log_sum) {
  return (logit - max) - log_sum;
}

// Loop bodies for for_each and for_each_row.
struct BeginSoftmax {
  OnlineSoftmax state;
  SG_HD void operator()(int64_t t) const {
    state.max[t] = -INFINITY;
    state.sum[t] = 0.0f;
    state.target_logit[t] = -INFINITY;
  }
};

struct SoftmaxLoss {
  OnlineSoftmax state;
  const int32_t* targets;
  float* losses;
  SG_HD void operator()(int64_t t) const {
    losses[t] = targets[t] == kIgnoredTarget
                    ? 0.0f
                    : -log_probability(state.target_logit[t], state.max[t], std::log(state.sum[t]));
  }
};

// scale * exp(l) / sum exp, or 0 for ignored tokens; the target's -scale is
// SoftmaxTargetGradient's.
template <bool kBias>
struct SoftmaxProbability {
  Matrix logits;
  const float* bias;
  const int32_t* targets;
  OnlineSoftmax state;
  float scale;

  struct Column {
    float* logits;
    const float* bias;
    float shift;
    float factor;
    bool ignored;
    SG_HD void operator()(int64_t c) const {
      const float logit = kBias ? logits[c] + bias[c] : logits[c];
      logits[c] = ignored ? 0.0f : fast_exp(logit - shift) * factor;
    }
  };
  SG_HD Column operator()(int64_t t) const {
    return {logits.row(t), bias, softmax_shift(state.max[t]), scale / state.sum[t],
            targets[t] == kIgnoredTarget};
  }
};

struct SoftmaxTargetGradient {
  Matrix logits;
  int64_t vocab_begin;
  const int32_t* targets;
  float scale;
  SG_HD void operator()(int64_t t) const {
    const int64_t c = targets[t] - vocab_begin;
    if (targets[t] != kIgnoredTarget && c >= 0 && c < logits.cols) logits(t, c) -= scale;
  }
};

struct TakeTargetLogit {
  Matrix logits;
  const float* bias;  // null for none
  const int32_t* places;
  const float* offsets;  // null for none
  OnlineSoftmax state;
  SG_HD void operator()(int64_t t) const {
    const int32_t place = places[t];
    if (place == kIgnoredTarget) return;
    float logit = logits(t, place);
    if (bias != nullptr) logit += bias[place];
    if (offsets != nullptr) logit -= offsets[t];
    state.target_logit[t] = logit;
    logits(t, place) = -INFINITY;
  }
};

struct AddTargetLogit {
  const int32_t* places;
  OnlineSoftmax state;
  SG_HD void operator()(int64_t t) const {
    if (places[t] == kIgnoredTarget) return;
    const LogSumExp sum = add_logit({state.max[t], state.sum[t]}, state.target_logit[t]);
    state.max[t] = sum.max;
    state.sum[t] = sum.sum;
  }
};

struct PutTargetGradient {
  Matrix gradient;
  const int32_t* places;
  OnlineSoftmax state;
  float scale;
  SG_HD void operator()(int64_t t) const {
    if (places[t] == kIgnoredTarget) return;
    const float weight = fast_exp(state.target_logit[t] - softmax_shift(state.max[t]));
    gradient(t, places[t]) = scale * (weight / state.sum[t] - 1.0f);
  }
};

}  // namespace sketchgrad::kernels
