#pragma once

#include <vector>

#include "sketchgrad/framework/parameter.h"

namespace sketchgrad {

// Global norm over dense and row-sparse gradients together; if it is above max_norm (> 0), all are
// scaled by max_norm / norm (Pascanu et al. 2013). Returns the norm before. Throws NumericError
// naming the parameter if it is not finite.
double clip_global_norm(const std::vector<Parameter*>& parameters, double max_norm);

}  // namespace sketchgrad
