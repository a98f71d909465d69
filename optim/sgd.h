#pragma once

#include "sketchgrad/optim/optimizer.h"
#include "sketchgrad/optim/rule_settings.h"

namespace sketchgrad {

// w <- w - lr g. No state.
struct Sgd {
  float learning_rate = 0.1f;

  void check_settings() const { check_size("sgd", "learning_rate", learning_rate); }
  Moments moments() const { return {None{}, None{}}; }
  RuleStep at(int64_t, float lr) const { return {kernels::SgdRule{lr}, {}, {}}; }
};

}  // namespace sketchgrad
