#pragma once

#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/multi_label.h"
#include "sketchgrad/kernels/multi_label_rules.h"

namespace sketchgrad::kernels {

// The device bodies behind multi_label.h. Requires what multi_label.cpp has checked.
namespace cpu {
void take_label_logits(const Exec&, ConstMatrix logits, const float* bias, const CsrMatrix& labels,
                       float* sums);
void subtract_labels(const Exec&, const CsrMatrix& labels, float scale, Matrix gradient);
void sigmoid_cross_entropy(const Exec&, Matrix logits, const float* bias, float scale, float* sums);
}  // namespace cpu
namespace cuda {
void take_label_logits(const Exec&, ConstMatrix logits, const float* bias, const CsrMatrix& labels,
                       float* sums);
void subtract_labels(const Exec&, const CsrMatrix& labels, float scale, Matrix gradient);
void sigmoid_cross_entropy(const Exec&, Matrix logits, const float* bias, float scale, float* sums);
}  // namespace cuda

namespace impl {

template <class Policy>
void take_label_logits(const Policy& policy, ConstMatrix logits, const float* bias,
                       const CsrMatrix& labels, float* sums) {
  for_each(policy, logits.rows, TakeLabelLogits{logits, bias, labels, sums});
}

template <class Policy>
void subtract_labels(const Policy& policy, const CsrMatrix& labels, float scale, Matrix gradient) {
  for_each(policy, gradient.rows, SubtractLabels{labels, scale, gradient});
}

// The row reduction on the CPU. Sums run side by side, or every one would wait for the one before.
template <class Logit>
float sum_of_row(const Logit logit, int64_t count) {
  float sums[kPrefetchColumns] = {};
  int64_t c = 0;
  for (; c + kPrefetchColumns <= count; c += kPrefetchColumns) {
#pragma omp simd
    for (int64_t i = 0; i < kPrefetchColumns; ++i) sums[i] += logit(c + i);
  }
  float sum = 0.0f;
  for (; c < count; ++c) sum += logit(c);
  for (const float one : sums) sum += one;
  return sum;
}

template <class Policy>
void sigmoid_cross_entropy(const Policy& policy, Matrix logits, const float* bias, float scale,
                           float* sums) {
  const int64_t grain = kBlockElements / (logits.cols > 0 ? logits.cols : 1);
  for_each_range(policy, logits.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      sums[t] = bias == nullptr
                    ? sum_of_row(SigmoidLogit<false>{logits.row(t), bias, scale}, logits.cols)
                    : sum_of_row(SigmoidLogit<true>{logits.row(t), bias, scale}, logits.cols);
    }
  });
}

}  // namespace impl
}  // namespace sketchgrad::kernels
