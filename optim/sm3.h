#pragma once

#include "sketchgrad/optim/optimizer.h"
#include "sketchgrad/optim/rule_settings.h"

namespace sketchgrad {

// SM3 (Anil et al. 2019): Adagrad whose second moment is a bound for each row and each column,
// w <- w - lr m / (sqrt(v) + epsilon), and w stays where v is 0. With momentum > 0, m is the
// average of gradients as Adam has it (the published code averages g / sqrt(v) instead); without, m
// = g. Other memories of the second moment make it Adagrad with momentum.
struct Sm3 {
  float learning_rate = 0.1f;
  float momentum = 0.0f;
  float epsilon = 0.0f;
  MemorySpec first = Dense{};  // with momentum
  MemorySpec second = Sm3Covers{};

  void check_settings() const {
    check_size("sm3", "learning_rate", learning_rate);
    check_decay("sm3", "momentum", momentum);
    check_size("sm3", "epsilon", epsilon);
  }
  Moments moments() const { return {momentum > 0.0f ? first : None{}, second}; }
  RuleStep at(int64_t, float lr) const {
    return {kernels::Sm3Rule{lr, epsilon}, kernels::Accumulate{momentum, 1.0f - momentum, false},
            kernels::Accumulate{1.0f, 1.0f, true}};
  }
};

}  // namespace sketchgrad
