#include "sketchgrad/framework/tape.h"

#include <limits>
#include <utility>

namespace sketchgrad {

Variable Tape::leaf(Parameter& parameter) {
  if (!recording_) return constant(parameter.value);
  Node node;
  node.op = parameter.name;
  node.parameter = &parameter;
  node.shape = parameter.value.shape();
  return append(std::move(node), parameter.value);
}

Variable Tape::record(std::string op, Tensor value, std::initializer_list<const Variable*> inputs,
                      Backward backward) {
  if (!any_needs_gradient(inputs)) return constant(std::move(value));
  Node node;
  node.op = std::move(op);
  node.backward = std::move(backward);
  node.shape = value.shape();
  return append(std::move(node), std::move(value));
}

Variable Tape::append(Node node, Tensor value) {
  check(nodes_.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()),
        "[tape] more nodes than 32 bits count");
  nodes_.push_back(std::move(node));
  return {std::move(value), static_cast<int32_t>(nodes_.size()) - 1};
}

bool Tape::any_needs_gradient(std::initializer_list<const Variable*> inputs) const {
  if (!recording_) return false;
  for (const Variable* input : inputs) {
    if (input != nullptr && input->needs_gradient()) return true;
  }
  return false;
}

Tape::Node& Tape::node_of(const Variable& input) {
  check(static_cast<size_t>(input.node) < nodes_.size(),
        "[tape] node {} is gone: a tape is walked back once, and each node before its inputs",
        input.node);
  return nodes_[static_cast<size_t>(input.node)];
}

void Tape::add_gradient(const Variable& input, Tensor gradient) {
  if (!input.needs_gradient()) return;
  Node& node = node_of(input);
  check(gradient.defined() && gradient.dtype() == DType::float32 && gradient.shape() == node.shape,
        "[{}] a gradient of shape {} for a value of shape {}", node.op, to_string(gradient.shape()),
        to_string(node.shape));
  if (node.parameter != nullptr) {
    node.parameter->gradient.add(std::move(gradient));
  } else if (node.gradient.defined()) {
    node.gradient = sum_of_gradients(std::move(node.gradient), std::move(gradient));
  } else {
    node.gradient = std::move(gradient);
  }
}

void Tape::add_gradient(const Variable& input, RowSparse gradient) {
  if (!input.needs_gradient()) return;
  Node& node = node_of(input);
  check(node.parameter != nullptr, "[{}] only parameters take row-sparse gradients", node.op);
  const bool is_table = node.shape.size() == 1 || node.shape.size() == 2;
  const int64_t cols = node.shape.size() == 2 ? node.shape[1] : 1;
  check(gradient.ids.defined() && gradient.values.defined() && is_table &&
            gradient.table_rows == node.shape[0] && gradient.values.dim() == 2 &&
            gradient.values.size(1) == cols,
        "[{}] row-sparse gradient of {} rows, values {}, for a table {}", node.op,
        gradient.table_rows, to_string(gradient.values.shape()), to_string(node.shape));
  node.parameter->gradient.add(std::move(gradient));
}

void Tape::backward(const Variable& loss, float seed) {
  check(loss.value.numel() == 1, "[backward] from a loss of shape {}, it must be one element",
        to_string(loss.value.shape()));
  check(loss.needs_gradient(), "[backward] the loss does not depend on a recorded parameter");
  seed_ = Tensor::full(loss.value.shape(), seed, {Category::gradient, "loss"}, loss.value.device());
  seed_value_ = seed;
  add_gradient(loss, seed_);
  while (!nodes_.empty()) {
    Node node = std::move(nodes_.back());
    nodes_.pop_back();
    if (!node.gradient.defined()) continue;
    const MemoryScope scope(node.op + ".backward");
    // The only reference left, so that the op may reuse the storage where nobody else shares it.
    const Tensor gradient = std::move(node.gradient);
    node.backward(*this, gradient);
  }
  seed_ = Tensor();
}

float Tape::scalar(const Tensor& grad_output) const {
  const bool is_seed = seed_.defined() && grad_output.raw() == seed_.raw();
  return is_seed ? seed_value_ : grad_output.item();
}

}  // namespace sketchgrad
