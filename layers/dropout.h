#pragma once

#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tape.h"

namespace sketchgrad {

// Inverted dropout while training, the identity otherwise. `rng` must outlive the layer.
class Dropout : public Module {
 public:
  Dropout(float probability, Rng& rng);
  Variable forward(Tape&, const Variable& x);

 private:
  float probability_;
  Rng& rng_;
};

}  // namespace sketchgrad
