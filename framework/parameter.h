#pragma once

#include <string>

#include "sketchgrad/framework/gradient.h"
#include "sketchgrad/framework/rng.h"

namespace sketchgrad {

// A trained tensor and its gradient. Owned by a module; optimizers and tapes hold pointers to it.
struct Parameter {
  Parameter(std::string full_name, const Shape& shape, Device device = kCpu)
      : name(std::move(full_name)),
        value(Tensor::zeros(shape, {Category::parameter, name}, DType::float32, device)) {}
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  std::string name;  // unique in the model: "lstm.weight_ih_l0"
  Tensor value;
  Gradient gradient;
};

// Fills a parameter from a draw of its own, uniformly in [low, high).
void init_uniform(Parameter&, Rng&, float low, float high);

}  // namespace sketchgrad
