#include "sketchgrad/layers/softmax_loss.h"

#include <utility>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/layers/softmax_chunks.h"

namespace sketchgrad {

namespace {

using kernels::Transpose;

void see_all_with_gradients(const SoftmaxChunks& chunks, float scale,
                            const SoftmaxGradients& gradients) {
  if (!chunks.plan().whole_rows()) chunks.see_all();
  for (const IndexRange classes : chunks.plan().classes) {
    for (const IndexRange tokens : chunks.plan().tokens) {
      add_chunk(chunks.gradient(tokens, classes, scale), chunks.x_rows(tokens),
                chunks.weight_rows(classes), tokens, classes, gradients);
    }
  }
}

}  // namespace

SoftmaxGradients make_gradients(const std::string& name, const Tensor& x, const SoftmaxTable& table,
                                bool want_x_gradient) {
  const auto make = [&](const Tensor& like, const char* what) {
    return Tensor::empty(like.shape(), {Category::gradient, name + what}, DType::float32,
                         like.device());
  };
  SoftmaxGradients gradients;
  if (want_x_gradient) gradients.x = make(x, ".grad_x");
  gradients.weight = make(table.weight, ".grad_weight");
  if (x.numel() == 0) gradients.weight.fill(0.0f);
  if (table.bias.defined()) {
    gradients.bias = make(table.bias, ".grad_bias");
    gradients.bias.fill(0.0f);
  }
  return gradients;
}

void add_chunk(const Tensor& chunk, kernels::ConstMatrix x, kernels::ConstMatrix weight,
               IndexRange tokens, IndexRange classes, const SoftmaxGradients& gradients) {
  const kernels::Exec exec = chunk.exec();
  if (gradients.x.defined()) {
    kernels::gemm(exec, Transpose::no, Transpose::no, 1.0f, chunk.matrix(), weight,
                  classes.begin == 0 ? 0.0f : 1.0f,
                  gradients.x.matrix().row_range(tokens.begin, tokens.count));
  }
  kernels::gemm(exec, Transpose::yes, Transpose::no, 1.0f, chunk.matrix(), x,
                tokens.begin == 0 ? 0.0f : 1.0f,
                gradients.weight.matrix().row_range(classes.begin, classes.count));
  if (gradients.bias.defined()) {
    kernels::add_column_sums(exec, chunk.matrix(), gradients.bias.data<float>() + classes.begin);
  }
}

void hand_over(Tape& tape, const Tensor& grad_output, const Variable& x, const Variable& weight,
               const Variable& bias, SoftmaxGradients&& gradients) {
  const float seed = tape.scalar(grad_output);
  if (seed != 1.0f) gradients.scale(seed);
  tape.add_gradient(x, std::move(gradients.x));
  tape.add_gradient(weight, std::move(gradients.weight));
  tape.add_gradient(bias, std::move(gradients.bias));
}

void scale_in_place(const Tensor& values, float factor) {
  if (!values.defined()) return;
  float* const data = values.data<float>();
  kernels::scale(values.exec(), data, factor, data, values.numel());
}

void SoftmaxGradients::scale(float factor) const {
  for (const Tensor* gradient : {&x, &weight, &bias}) scale_in_place(*gradient, factor);
}

Tensor scaled_total(const Tensor& losses, double scale, const std::string& name) {
  Tensor total = Tensor::empty({1}, {Category::activation, name}, DType::float32, losses.device());
  kernels::scaled_sum(losses.exec(), losses.data<float>(), losses.numel(), scale,
                      total.data<float>());
  return total;
}

SoftmaxLoss softmax_loss(const std::string& name, const Tensor& x, const SoftmaxTable& table,
                         const Tensor& targets, double scale, int64_t chunk_bytes,
                         bool want_gradients, bool want_x_gradient) {
  const SoftmaxChunks chunks(name, x, table.weight, table.bias, targets, chunk_bytes);
  SoftmaxLoss result;
  if (want_gradients) {
    result.gradients = make_gradients(name, x, table, want_x_gradient);
    see_all_with_gradients(chunks, static_cast<float>(scale), result.gradients);
  } else {
    chunks.see_all();
  }
  const Tensor losses = chunks.losses({Category::workspace, name + ".losses"});
  result.total = scaled_total(losses, scale, name);
  return result;
}

}  // namespace sketchgrad
