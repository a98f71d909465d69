#include "sketchgrad/layers/full_softmax.h"

#include <algorithm>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/layers/best_classes.h"
#include "sketchgrad/layers/output_checks.h"
#include "sketchgrad/layers/softmax_chunks.h"

namespace sketchgrad {

namespace {

using kernels::Transpose;

// Of the mean loss with respect to the operands; x has none where it needs none.
struct Gradients {
  Tensor x;       // the shape of x
  Tensor weight;  // [classes, input]
  Tensor bias;    // [classes], none without bias

  void scale(float factor) const {
    for (const Tensor* gradient : {&x, &weight, &bias}) {
      if (!gradient->defined()) continue;
      float* const data = gradient->data<float>();
      kernels::scale(gradient->exec(), data, factor, data, gradient->numel());
    }
  }
};

// Zero where chunks only add: the bias, and the weight where there is no token to write it.
Gradients make_gradients(const Variable& x, const Parameter& weight, const Parameter* bias) {
  const auto make = [&](const Tensor& like, const std::string& name) {
    return Tensor::empty(like.shape(), {Category::gradient, name}, DType::float32, like.device());
  };
  Gradients gradients;
  if (x.needs_gradient()) gradients.x = make(x.value, weight.name + ".grad_x");
  gradients.weight = make(weight.value, weight.name);
  if (x.value.numel() == 0) gradients.weight.fill(0.0f);
  if (bias != nullptr) {
    gradients.bias = make(bias->value, bias->name);
    gradients.bias.fill(0.0f);
  }
  return gradients;
}

// Adds the part of one chunk. The first chunk along an axis writes what the others add to.
void add_chunk(const SoftmaxChunks& chunks, IndexRange tokens, IndexRange classes, float scale,
               const Gradients& gradients) {
  const Tensor chunk = chunks.gradient(tokens, classes, scale);
  const kernels::Exec exec = chunk.exec();
  if (gradients.x.defined()) {
    kernels::gemm(exec, Transpose::no, Transpose::no, 1.0f, chunk.matrix(),
                  chunks.weight_rows(classes), classes.begin == 0 ? 0.0f : 1.0f,
                  gradients.x.matrix().row_range(tokens.begin, tokens.count));
  }
  kernels::gemm(exec, Transpose::yes, Transpose::no, 1.0f, chunk.matrix(), chunks.x_rows(tokens),
                tokens.begin == 0 ? 0.0f : 1.0f,
                gradients.weight.matrix().row_range(classes.begin, classes.count));
  if (gradients.bias.defined()) {
    kernels::add_column_sums(exec, chunk.matrix(), gradients.bias.data<float>() + classes.begin);
  }
}

void see_all_with_gradients(const SoftmaxChunks& chunks, float scale, const Gradients& gradients) {
  if (!chunks.plan().whole_rows()) chunks.see_all();
  for (const IndexRange classes : chunks.plan().classes) {
    for (const IndexRange tokens : chunks.plan().tokens) {
      add_chunk(chunks, tokens, classes, scale, gradients);
    }
  }
}

Tensor on_device_of(const Tensor& x, const Tensor& targets) {
  return targets.to(x.device(), {Category::workspace, "softmax.targets"});
}

Tensor no_targets(int64_t tokens) {
  const Tensor targets =
      Tensor::empty({tokens}, {Category::workspace, "top_k.targets"}, DType::int32);
  std::fill_n(targets.data<int32_t>(), tokens, kernels::kIgnoredTarget);
  return targets;
}

Shape weight_shape(const std::string& name, const FullSoftmaxOptions& options) {
  check(options.input > 0 && options.classes > 0,
        "[{}] a softmax of {} inputs over {} classes, both must be at least 1", name, options.input,
        options.classes);
  check(options.chunk_bytes >= static_cast<int64_t>(sizeof(float)),
        "[{}] chunk_bytes is {}, a chunk holds one logit at least", name, options.chunk_bytes);
  return {options.classes, options.input};
}

}  // namespace

FullSoftmax::FullSoftmax(const std::string& name, const FullSoftmaxOptions& options, Rng& rng,
                         Parameter* tied, Device device)
    : name_(name), options_(options), weight_(tied) {
  const Shape shape = weight_shape(name, options);
  if (tied == nullptr) {
    weight_ = &add_parameter(name + ".weight", shape, device);
    init_uniform(*weight_, rng, -options.init_range, options.init_range);
  }
  check(weight_->value.shape() == shape, "[{}] tied weight {} has shape {}, it must be {}", name,
        weight_->name, to_string(weight_->value.shape()), to_string(shape));
  if (options.bias) bias_ = &add_parameter(name + ".bias", {options.classes}, device);
}

Tensor FullSoftmax::bias_value() const { return bias_ == nullptr ? Tensor() : bias_->value; }

Variable FullSoftmax::loss(Tape& tape, const Variable& x, const Tensor& targets) {
  const MemoryScope scope(name_);
  const int64_t tokens = check_features(name_, x.value, options_.input);
  const int64_t count = check_targets(name_, targets, tokens, options_.classes);
  const double scale = share_of_mean(count);
  const SoftmaxChunks chunks(name_, x.value, weight_->value, bias_value(),
                             on_device_of(x.value, targets), options_.chunk_bytes);
  Gradients gradients;
  if (tape.recording()) {
    gradients = make_gradients(x, *weight_, bias_);
    see_all_with_gradients(chunks, static_cast<float>(scale), gradients);
  } else {
    chunks.see_all();
  }
  const Tensor losses = chunks.losses({Category::workspace, name_ + ".losses"});
  const Tensor mean =
      Tensor::empty({1}, {Category::activation, name_}, DType::float32, losses.device());
  kernels::scaled_sum(losses.exec(), losses.data<float>(), tokens, scale, mean.data<float>());

  const Variable weight = tape.leaf(*weight_);
  const Variable bias = bias_ == nullptr ? Variable() : tape.leaf(*bias_);
  return tape.record(name_, mean, {&x, &weight, &bias},
                     [x = x.place(), weight = weight.place(), bias = bias.place(), gradients](
                         Tape& t, const Tensor& grad_output) mutable {
                       const float seed = t.scalar(grad_output);
                       if (seed != 1.0f) gradients.scale(seed);
                       t.add_gradient(x, std::move(gradients.x));
                       t.add_gradient(weight, std::move(gradients.weight));
                       t.add_gradient(bias, std::move(gradients.bias));
                     });
}

Tensor FullSoftmax::log_prob(const Tensor& x, const Tensor& targets) {
  const MemoryScope scope(name_);
  check_targets(name_, targets, check_features(name_, x, options_.input), options_.classes);
  const SoftmaxChunks chunks(name_, x, weight_->value, bias_value(), on_device_of(x, targets),
                             options_.chunk_bytes);
  chunks.see_all();
  const Tensor result = chunks.losses({Category::data, name_ + ".log_prob"});
  kernels::scale(result.exec(), result.data<float>(), -1.0f, result.data<float>(), result.numel());
  return result;
}

TopK FullSoftmax::top_k(const Tensor& x, int64_t k) {
  const MemoryScope scope(name_);
  const int64_t tokens = check_features(name_, x, options_.input);
  check(k >= 1 && k <= options_.classes, "[{}] top {} of {} classes", name_, k, options_.classes);
  const Tensor targets = on_device_of(x, no_targets(tokens));
  const SoftmaxChunks chunks(name_, x, weight_->value, bias_value(), targets, options_.chunk_bytes);
  BestClasses best(tokens, k);
  for (const IndexRange classes : chunks.plan().classes) {
    for (const IndexRange block : chunks.plan().tokens) {
      best.see(chunks.see(block, classes), block, classes);
    }
  }
  return best.result(chunks.log_sums(), name_, x.device());
}

}  // namespace sketchgrad
