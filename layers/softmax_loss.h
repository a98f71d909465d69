#pragma once

#include <string>

#include "sketchgrad/framework/tape.h"
#include "sketchgrad/layers/softmax_chunks.h"

// A full softmax with cross-entropy over one table, forward and backward in one walk over chunks of
// logits: what full and adaptive softmax are made of.
namespace sketchgrad {

struct SoftmaxTable {
  Tensor weight;  // [classes, input]
  Tensor bias;    // [classes], or undefined
};

// In place; nothing where it is undefined.
void scale_in_place(const Tensor& values, float factor);

// With respect to what a loss was taken of; undefined where it was not asked for.
struct SoftmaxGradients {
  Tensor x;       // the shape of x
  Tensor weight;  // [classes, input]
  Tensor bias;    // [classes]
  void scale(float factor) const;
};

// Uninitialised, but for what chunks only add to: the bias, and the weight where there is no token
// to write it.
SoftmaxGradients make_gradients(const std::string& name, const Tensor& x, const SoftmaxTable&,
                                bool want_x_gradient);

// Adds what a chunk of d loss / d logits [tokens, classes] gives. The first chunk along an axis
// writes what the others add to. x [tokens, input] and weight [classes, input] are the chunk's.
void add_chunk(const Tensor& chunk, kernels::ConstMatrix x, kernels::ConstMatrix weight,
               IndexRange tokens, IndexRange classes, const SoftmaxGradients&);

// What a layer's backward function does with them, all of which may be adopted.
void hand_over(Tape&, const Tensor& grad_output, const Variable& x, const Variable& weight,
               const Variable& bias, SoftmaxGradients&&);

// One element, named as the layer: scale times the sum of the losses.
Tensor scaled_total(const Tensor& losses, double scale, const std::string& name);

struct SoftmaxLoss {
  Tensor total;  // one element: scale times the sum of -log p(target)
  SoftmaxGradients gradients;
};

// x [.., input] and targets int32, one a token and checked, on one device. Gradients, where they
// are wanted, are those of `total`.
SoftmaxLoss softmax_loss(const std::string& name, const Tensor& x, const SoftmaxTable&,
                         const Tensor& targets, double scale, int64_t chunk_bytes,
                         bool want_gradients, bool want_x_gradient);

}  // namespace sketchgrad
