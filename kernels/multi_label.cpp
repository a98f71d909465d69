#include "sketchgrad/kernels/multi_label.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/multi_label_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_labels(const char* op, const CsrMatrix& labels, int64_t tokens) {
  if (labels.rows != tokens) refuse(op, "labels of {} tokens for {}", labels.rows, tokens);
  check_array(op, "labels.begin", labels.begin, tokens);
}

}  // namespace

void take_label_logits(const Exec& exec, ConstMatrix logits, const float* bias,
                       const CsrMatrix& labels, float* sums) {
  check_matrix("take_label_logits", "logits", logits);
  check_labels("take_label_logits", labels, logits.rows);
  check_array("take_label_logits", "sums", sums, logits.rows);
  dispatch(exec, cpu::take_label_logits, cuda::take_label_logits, logits, bias, labels, sums);
}

void subtract_labels(const Exec& exec, const CsrMatrix& labels, float scale, Matrix gradient) {
  check_matrix("subtract_labels", "gradient", gradient);
  check_labels("subtract_labels", labels, gradient.rows);
  dispatch(exec, cpu::subtract_labels, cuda::subtract_labels, labels, scale, gradient);
}

void sigmoid_cross_entropy(const Exec& exec, Matrix logits, const float* bias, float scale,
                           float* sums) {
  check_matrix("sigmoid_cross_entropy", "logits", logits);
  check_array("sigmoid_cross_entropy", "sums", sums, logits.rows);
  dispatch(exec, cpu::sigmoid_cross_entropy, cuda::sigmoid_cross_entropy, logits, bias, scale,
           sums);
}

}  // namespace sketchgrad::kernels
