#pragma once

#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/math_rules.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

// Loop bodies for for_each over tokens.
struct TakeLabelLogits {
  ConstMatrix logits;
  const float* bias;  // null for none
  CsrMatrix labels;
  float* sums;
  SG_HD void operator()(int64_t t) const {
    float sum = 0.0f;
    for (int32_t i = labels.begin[t]; i < labels.begin[t + 1]; ++i) {
      const int32_t label = labels.columns[i];
      float logit = logits(t, label);
      if (bias != nullptr) logit += bias[label];
      sum += labels.values == nullptr ? logit : labels.values[i] * logit;
    }
    sums[t] = sum;
  }
};

struct SubtractLabels {
  CsrMatrix labels;
  float scale;
  Matrix gradient;
  SG_HD void operator()(int64_t t) const {
    for (int32_t i = labels.begin[t]; i < labels.begin[t + 1]; ++i) {
      const float weight = labels.values == nullptr ? 1.0f : labels.values[i];
      gradient(t, labels.columns[i]) -= scale * weight;
    }
  }
};

// One logit of a sigmoid: writes the gradient and returns log(1 + exp(z)).
template <bool kBias>
struct SigmoidLogit {
  float* logits;
  const float* bias;
  float scale;
  SG_HD float operator()(int64_t c) const {
    const float z = kBias ? logits[c] + bias[c] : logits[c];
    const SoftplusAndSigmoid value = softplus_and_sigmoid(z);
    logits[c] = scale * value.sigmoid;
    return value.softplus;
  }
};

}  // namespace sketchgrad::kernels
