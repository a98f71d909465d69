#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sketchgrad/framework/parameter.h"

namespace sketchgrad {

// A value with a place on a tape. Variables are cheap to copy and valid as long as their tape.
struct Variable {
  Tensor value;
  int32_t node = -1;  // -1: no gradient flows here
  bool needs_gradient() const { return node >= 0; }
  // The place alone, which is all that add_gradient needs: a backward function that captures it
  // does not keep the value alive.
  Variable place() const { return {Tensor(), node}; }
};

// Records one forward pass and walks it back. Local to a training step: made before the forward
// pass, gone after backward. One thread.
//
//   Tape tape;
//   Variable loss = model.loss(tape, batch);
//   tape.backward(loss);          // parameters hold their gradients; activations are freed
class Tape {
 public:
  // Gets the gradient of an op's output and calls tape.add_gradient for each input that needs one.
  using Backward = std::function<void(Tape& tape, const Tensor& grad_output)>;

  // recording = false: forward only (evaluation); nothing is kept.
  explicit Tape(bool recording = true) : recording_(recording) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  bool recording() const { return recording_; }
  // The parameter as a variable; its gradient goes to parameter.gradient.
  Variable leaf(Parameter& parameter);
  // A value without a gradient.
  static Variable constant(Tensor value) { return {std::move(value), -1}; }
  // The output of an op. Keeps `backward` only if recording and an input needs a gradient; `op`
  // names the op in errors and memory records.
  Variable record(std::string op, Tensor value, std::initializer_list<const Variable*> inputs,
                  Backward backward);
  bool any_needs_gradient(std::initializer_list<const Variable*> inputs) const;

  // Called by backward functions. A dense gradient may be adopted: do not write to it afterwards.
  void add_gradient(const Variable& input, Tensor gradient);
  void add_gradient(const Variable& input, RowSparse gradient);

  // The gradient of a scalar output as a number. On CUDA reading it waits for all queued work,
  // except where it is still what backward() began with.
  float scalar(const Tensor& grad_output) const;

  // Back from a loss of one element, whose own gradient is `seed`. Frees each node as it is passed.
  // Once a tape.
  void backward(const Variable& loss, float seed = 1.0f);

 private:
  struct Node {
    std::string op;
    Backward backward;
    Parameter* parameter = nullptr;
    Tensor gradient;
    Shape shape;
  };
  Variable append(Node node, Tensor value);
  Node& node_of(const Variable& input);

  std::vector<Node> nodes_;
  // Held while walking back, so that nobody writes to it.
  Tensor seed_;
  float seed_value_ = 1.0f;
  bool recording_;
};

}  // namespace sketchgrad
