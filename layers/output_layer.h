#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tape.h"

namespace sketchgrad {

struct TopK {
  Tensor ids;     // int32 [tokens, k], best first; equal scores in order of id
  Tensor scores;  // float32 [tokens, k], log-probabilities
};

// What all softmaxes over a vocabulary share. x is [tokens, input] (leading axes are folded);
// targets int32 [tokens], kernels::kIgnoredTarget marks tokens without a target. They may lie on
// the CPU whatever the device of x: there they are checked without waiting for the device.
class OutputLayer : public Module {
 public:
  // Mean over the tokens with a target of -log p(target). A scalar; 0 if no token has one. While
  // training this may be an estimate (sampled softmax), in evaluation it is exact.
  virtual Variable loss(Tape&, const Variable& x, const Tensor& targets) = 0;
  // Exact log p(target) a token: float32 [tokens], 0 for ignored ones.
  virtual Tensor log_prob(const Tensor& x, const Tensor& targets) = 0;
  // Exact top k a token.
  virtual TopK top_k(const Tensor& x, int64_t k) = 0;
  virtual int64_t classes() const = 0;
  // The tables with a row for each class, tied ones included: those whose size grows with the
  // vocabulary.
  virtual std::vector<Parameter*> class_tables() = 0;
  // How the last steps of training went, by name; for logs.
  virtual std::vector<std::pair<std::string, double>> statistics() const { return {}; }
  // A step that fails is taken back: restore_state() makes what loss() has changed since the last
  // keep_state() as it was, as far as it would change another try.
  virtual void keep_state() {}
  virtual void restore_state() {}
  // What training needs to go on from besides parameters.
  virtual void save_state(StateDict&) const {}
  virtual void load_state(const StateDict&) {}
};

}  // namespace sketchgrad
