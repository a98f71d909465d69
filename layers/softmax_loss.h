#pragma once

#include <string>

#include "sketchgrad/framework/tape.h"

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
