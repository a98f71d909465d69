#pragma once

#include <cmath>

#include "sketchgrad/optim/optimizer.h"
#include "sketchgrad/optim/rule_settings.h"

namespace sketchgrad {

// Adam (Kingma & Ba 2015; Algorithm 4 of the count-sketch paper) with decoupled weight decay
// (Loshchilov & Hutter 2019). beta1 = 0 needs no first moment: give None. The paper's CS-MV is
// Adam{.first = CountSketch{0.2}, .second = CountMin{0.2}}, CS-V leaves the first dense.
struct Adam {
  float learning_rate = 1e-3f;
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float epsilon = 1e-8f;
  float weight_decay = 0.0f;
  MemorySpec first = Dense{};
  MemorySpec second = Dense{};

  void check_settings() const {
    check_size("adam", "learning_rate", learning_rate);
    check_decay("adam", "beta1", beta1);
    check_decay("adam", "beta2", beta2);
    check_size("adam", "epsilon", epsilon);
    check_size("adam", "weight_decay", weight_decay);
  }
  Moments moments() const { return {first, second}; }
  RuleStep at(int64_t step, float lr) const {
    const double t = static_cast<double>(step);
    const double correction1 = 1.0 - std::pow(static_cast<double>(beta1), t);
    const double correction2 = 1.0 - std::pow(static_cast<double>(beta2), t);
    return {kernels::AdamRule{static_cast<float>(lr / correction1),
                              static_cast<float>(1.0 / std::sqrt(correction2)), epsilon,
                              1.0f - lr * weight_decay},
            kernels::Accumulate{beta1, 1.0f - beta1, false},
            kernels::Accumulate{beta2, 1.0f - beta2, true}};
  }
};

}  // namespace sketchgrad
