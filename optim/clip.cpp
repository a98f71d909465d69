#include "sketchgrad/optim/clip.h"

#include <cmath>

#include "sketchgrad/framework/transfer.h"
#include "sketchgrad/kernels/reduce.h"

namespace sketchgrad {

double clip_global_norm(const std::vector<Parameter*>& parameters, double max_norm) {
  check(max_norm > 0.0, "[clip_global_norm] max_norm {} must be above 0", max_norm);
  double squares = 0.0;
  for (Parameter* parameter : parameters) {
    const Tensor values = parameter->gradient.values();
    if (!values.defined()) continue;
    const double own = kernels::sum_of_squares(values.exec(), values.data<float>(), values.numel());
    if (!std::isfinite(own)) {
      throw NumericError(
          fmt::format("[clip_global_norm] the gradient of {} is not finite", parameter->name));
    }
    squares += own;
  }
  const double norm = std::sqrt(squares);
  if (norm > max_norm) {
    const float factor = static_cast<float>(max_norm / norm);
    for (Parameter* parameter : parameters) parameter->gradient.scale(factor);
  }
  return norm;
}

Tensor clip_global_norm_on_device(const std::vector<Parameter*>& parameters, double max_norm) {
  check(max_norm > 0.0, "[clip_global_norm] max_norm {} must be above 0", max_norm);
  check(!parameters.empty(), "[clip_global_norm] of no parameters");
  const Device device = parameters[0]->value.device();
  const kernels::Exec exec = exec_on(device);
  const kernels::ScratchArray<double> squares(exec, 1, "clip.squares");
  const kernels::ScratchArray<float> factor(exec, 1, "clip.factor");
  zero_bytes(device, squares.data(), sizeof(double));
  for (Parameter* parameter : parameters) {
    const Tensor values = parameter->gradient.values();
    if (!values.defined()) continue;
    check(values.device() == device, "[clip_global_norm] {} is on {}, {} on {}", parameter->name,
          to_string(values.device()), parameters[0]->name, to_string(device));
    kernels::add_sum_of_squares(exec, values.data<float>(), values.numel(), squares.data());
  }
  const Tensor norm =
      Tensor::empty({1}, {Category::workspace, "clip.norm"}, DType::float32, device);
  kernels::clip_factor(exec, squares.data(), max_norm, norm.data<float>(), factor.data());
  if (std::isinf(max_norm)) return norm;
  for (Parameter* parameter : parameters) parameter->gradient.scale_by(factor.data());
  return norm;
}

}  // namespace sketchgrad
