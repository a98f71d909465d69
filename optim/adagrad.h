#pragma once

#include "sketchgrad/optim/optimizer.h"

namespace sketchgrad {

// v <- v + g^2, w <- w - lr g / (sqrt(v) + epsilon) (Duchi et al. 2011; Algorithm 3 of the
// count-sketch paper, which has epsilon inside the root).
struct Adagrad {
  float learning_rate = 0.1f;
  float epsilon = 1e-10f;
  MemorySpec second = Dense{};

  Moments moments() const { return {None{}, second}; }
  RuleStep at(int64_t, float lr) const {
    return {kernels::RootScaledRule{lr, epsilon}, {}, kernels::Accumulate{1.0f, 1.0f, true}};
  }
};

}  // namespace sketchgrad
