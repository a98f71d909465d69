#pragma once

#include "sketchgrad/optim/optimizer.h"

namespace sketchgrad {

// v <- decay v + (1 - decay) g^2, w <- w - lr g / (sqrt(v) + epsilon) (Tieleman & Hinton 2012).
struct Rmsprop {
  float learning_rate = 0.01f;
  float decay = 0.99f;
  float epsilon = 1e-8f;
  MemorySpec second = Dense{};

  Moments moments() const { return {None{}, second}; }
  RuleStep at(int64_t, float lr) const {
    return {
        kernels::RootScaledRule{lr, epsilon}, {}, kernels::Accumulate{decay, 1.0f - decay, true}};
  }
};

}  // namespace sketchgrad
