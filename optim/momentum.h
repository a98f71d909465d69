#pragma once

#include "sketchgrad/optim/optimizer.h"
#include "sketchgrad/optim/rule_settings.h"

namespace sketchgrad {

// Heavy ball, m <- momentum m + g, w <- w - lr m (Polyak 1964; Algorithm 2 of the count-sketch
// paper); with `nesterov` w <- w - lr (g + momentum m) (Sutskever et al. 2013).
struct Momentum {
  float learning_rate = 0.1f;
  float momentum = 0.9f;
  bool nesterov = false;
  MemorySpec first = Dense{};

  void check_settings() const {
    check_size("momentum", "learning_rate", learning_rate);
    check_decay("momentum", "momentum", momentum);
  }
  Moments moments() const { return {first, None{}}; }
  RuleStep at(int64_t, float lr) const {
    return {kernels::MomentumRule{lr, nesterov ? 1.0f : 0.0f, nesterov ? momentum : 1.0f},
            kernels::Accumulate{momentum, 1.0f, false},
            {}};
  }
};

}  // namespace sketchgrad
