#pragma once

#include "sketchgrad/optim/optimizer.h"
#include "sketchgrad/optim/rule_settings.h"

namespace sketchgrad {

// v <- v + g^2, w <- w - lr g / (sqrt(v) + epsilon), v from initial_accumulator on (Duchi et al.
// 2011; Algorithm 3 of the count-sketch paper, which has epsilon inside the root).
struct Adagrad {
  float learning_rate = 0.1f;
  float epsilon = 1e-10f;
  // Above 0, the first steps of a row are short: from 0 on, each element's first one is lr.
  float initial_accumulator = 0.0f;
  MemorySpec second = Dense{};

  void check_settings() const {
    check_size("adagrad", "learning_rate", learning_rate);
    check_size("adagrad", "epsilon", epsilon);
    check_size("adagrad", "initial_accumulator", initial_accumulator);
  }
  Moments moments() const { return {None{}, second}; }
  RuleStep at(int64_t, float lr) const {
    return {kernels::RootScaledRule{lr, epsilon, initial_accumulator},
            {},
            kernels::Accumulate{1.0f, 1.0f, true}};
  }
};

}  // namespace sketchgrad
