#include "sketchgrad/layers/dropout.h"

#include "sketchgrad/framework/ops.h"

namespace sketchgrad {

Dropout::Dropout(float probability, Rng& rng) : probability_(probability), rng_(rng) {
  check(probability >= 0.0f && probability < 1.0f, "[dropout] probability {} is outside [0, 1)",
        probability);
}

Variable Dropout::forward(Tape& tape, const Variable& x) {
  if (!training() || probability_ == 0.0f) return x;
  return dropout(tape, x, probability_, rng_.next());
}

}  // namespace sketchgrad
