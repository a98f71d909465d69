#include "sketchgrad/optim/clip.h"

#include <cmath>

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

}  // namespace sketchgrad
