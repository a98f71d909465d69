#include "sketchgrad/kernels/multi_label_impl.h"

namespace sketchgrad::kernels::cpu {

void take_label_logits(const Exec&, ConstMatrix logits, const float* bias, const CsrMatrix& labels,
                       float* sums) {
  impl::take_label_logits(TbbPolicy{}, logits, bias, labels, sums);
}

void subtract_labels(const Exec&, const CsrMatrix& labels, float scale, Matrix gradient) {
  impl::subtract_labels(TbbPolicy{}, labels, scale, gradient);
}

void sigmoid_cross_entropy(const Exec&, Matrix logits, const float* bias, float scale,
                           float* sums) {
  impl::sigmoid_cross_entropy(TbbPolicy{}, logits, bias, scale, sums);
}

}  // namespace sketchgrad::kernels::cpu
