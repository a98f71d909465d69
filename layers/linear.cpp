#include "sketchgrad/layers/linear.h"

#include <cmath>

#include "sketchgrad/framework/ops.h"

namespace sketchgrad {

namespace {

Shape weight_shape(const std::string& name, int64_t in, int64_t out) {
  check(in > 0 && out > 0, "[linear] {} maps {} inputs to {} outputs, both must be at least 1",
        name, in, out);
  return {out, in};
}

}  // namespace

Linear::Linear(const std::string& name, int64_t in, int64_t out, Rng& rng, bool bias, Device device)
    : weight_(add_parameter(name + ".weight", weight_shape(name, in, out), device)) {
  const float range = 1.0f / std::sqrt(static_cast<float>(in));
  init_uniform(weight_, rng, -range, range);
  if (!bias) return;
  bias_ = &add_parameter(name + ".bias", {out}, device);
  init_uniform(*bias_, rng, -range, range);
}

Variable Linear::forward(Tape& tape, const Variable& x) {
  const Variable weight = tape.leaf(weight_);
  if (bias_ == nullptr) return linear(tape, x, weight, nullptr);
  const Variable bias = tape.leaf(*bias_);
  return linear(tape, x, weight, &bias);
}

}  // namespace sketchgrad
