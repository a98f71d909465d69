#include "sketchgrad/layers/full_softmax.h"

#include <utility>

#include "sketchgrad/layers/best_classes.h"
#include "sketchgrad/layers/output_checks.h"
#include "sketchgrad/layers/softmax_chunks.h"
#include "sketchgrad/layers/softmax_loss.h"

namespace sketchgrad {

namespace {

Tensor on_device_of(const Tensor& x, const Tensor& targets) {
  return targets.to(x.device(), {Category::workspace, "softmax.targets"});
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
  SoftmaxLoss loss = softmax_loss(name_, x.value, {weight_->value, bias_value()},
                                  on_device_of(x.value, targets), share_of_mean(count),
                                  options_.chunk_bytes, tape.recording(), x.needs_gradient());
  const Variable weight = tape.leaf(*weight_);
  const Variable bias = bias_ == nullptr ? Variable() : tape.leaf(*bias_);
  return tape.record(
      name_, std::move(loss.total), {&x, &weight, &bias},
      [x = x.place(), weight = weight.place(), bias = bias.place(),
       gradients = std::move(loss.gradients)](Tape& t, const Tensor& grad_output) mutable {
        hand_over(t, grad_output, x, weight, bias, std::move(gradients));
      });
}

Tensor FullSoftmax::log_prob(const Tensor& x, const Tensor& targets) {
  const MemoryScope scope(name_);
  check_targets(name_, targets, check_features(name_, x, options_.input), options_.classes);
  const SoftmaxChunks chunks(name_, x, weight_->value, bias_value(), on_device_of(x, targets),
                             options_.chunk_bytes);
  chunks.see_all();
  const Tensor result = chunks.losses({Category::data, name_ + ".log_prob"});
  scale_in_place(result, -1.0f);
  return result;
}

TopK FullSoftmax::top_k(const Tensor& x, int64_t k) {
  const MemoryScope scope(name_);
  const int64_t tokens = check_features(name_, x, options_.input);
  check(k >= 1 && k <= options_.classes, "[{}] top {} of {} classes", name_, k, options_.classes);
  const Tensor targets = no_targets(tokens, x.device());
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
