#pragma once

#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tape.h"

namespace sketchgrad {

// y = x W^T + b, W [out, in], b [out]. Initialised uniformly in +-1/sqrt(in).
class Linear : public Module {
 public:
  Linear(const std::string& name, int64_t in, int64_t out, Rng&, bool bias = true, Device = kCpu);

  // x [.., in] -> [.., out]
  Variable forward(Tape&, const Variable& x);

  Parameter& weight() { return weight_; }
  Parameter* bias() { return bias_; }  // null without bias

 private:
  Parameter& weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace sketchgrad
