#pragma once

#include <string>

#include "sketchgrad/framework/parameter.h"
#include "sketchgrad/framework/tape.h"
#include "sketchgrad/layers/candidates.h"

// Softmax cross-entropy over some of the classes: what sampled and LSH softmax share. The
// candidates are the same for all tokens of a batch, except that every token has its target among
// its own.
namespace sketchgrad {

// With the logits z_tv = x_t W_v + b_v, less offsets, and the target y of token t: the mean over
// `count` tokens with a target of
//   log(exp(z_ty) + sum over candidates v != y of exp(z_tv)) - z_ty.
// The gradients of weight and bias are row-sparse, with a row for each candidate; nothing is of the
// size of the table. No more than chunk_bytes of logits are held at a time, but those of one token
// at least.
Variable candidate_softmax_loss(Tape&, const std::string& name, const Variable& x,
                                Parameter& weight, Parameter* bias, const Candidates&,
                                int64_t count, int64_t chunk_bytes);

}  // namespace sketchgrad
