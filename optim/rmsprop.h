#pragma once

#include "sketchgrad/optim/optimizer.h"
#include "sketchgrad/optim/rule_settings.h"

namespace sketchgrad {

// v <- decay v + (1 - decay) g^2, w <- w - lr g / (sqrt(v) + epsilon) (Tieleman & Hinton 2012).
struct Rmsprop {
  float learning_rate = 0.01f;
  float decay = 0.99f;
  float epsilon = 1e-8f;
  MemorySpec second = Dense{};

  void check_settings() const {
    check_size("rmsprop", "learning_rate", learning_rate);
    check_decay("rmsprop", "decay", decay);
    check_size("rmsprop", "epsilon", epsilon);
  }
  Moments moments() const { return {None{}, second}; }
  RuleStep at(int64_t, float lr) const {
    return {
        kernels::RootScaledRule{lr, epsilon}, {}, kernels::Accumulate{decay, 1.0f - decay, true}};
  }
};

}  // namespace sketchgrad
