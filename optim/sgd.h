#pragma once

#include "sketchgrad/optim/optimizer.h"

namespace sketchgrad {

// w <- w - lr g. No state.
struct Sgd {
  float learning_rate = 0.1f;

  Moments moments() const { return {None{}, None{}}; }
  RuleStep at(int64_t, float lr) const { return {kernels::SgdRule{lr}, {}, {}}; }
};

}  // namespace sketchgrad
