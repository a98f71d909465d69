#pragma once

#include "sketchgrad/framework/tape.h"

// Differentiable ops on dense variables. Shapes must be equal unless said otherwise; violations
// throw InvalidArgument naming the op and both shapes.
namespace sketchgrad {

Variable add(Tape&, const Variable& a, const Variable& b);
Variable subtract(Tape&, const Variable& a, const Variable& b);
Variable multiply(Tape&, const Variable& a, const Variable& b);
Variable scale(Tape&, const Variable& x, float factor);
Variable relu(Tape&, const Variable& x);
Variable sigmoid(Tape&, const Variable& x);
Variable tanh(Tape&, const Variable& x);
// Same elements in another shape (shared storage); one axis may be -1.
Variable reshape(Tape&, const Variable& x, const Shape& shape);
// [m, k] x [k, n] -> [m, n]
Variable matmul(Tape&, const Variable& a, const Variable& b);
// x [.., in] -> [.., out]: x weight^T + bias, weight [out, in], bias [out] (null for none).
Variable linear(Tape&, const Variable& x, const Variable& weight, const Variable* bias);
// Inverted dropout; the identity where probability is 0. The mask is recomputed, not stored.
Variable dropout(Tape&, const Variable& x, float probability, kernels::PhiloxKey key);
// One element: the sum or the mean over all.
Variable sum(Tape&, const Variable& x);
Variable mean(Tape&, const Variable& x);

}  // namespace sketchgrad
