#pragma once

#include <vector>

#include "sketchgrad/framework/parameter.h"

namespace sketchgrad {

// Global norm over dense and row-sparse gradients together; if it is above max_norm (> 0), all are
// scaled by max_norm / norm (Pascanu et al. 2013). Returns the norm before. Throws NumericError
// naming the parameter if it is not finite.
// Waits for the device where the gradients lie on one.
double clip_global_norm(const std::vector<Parameter*>& parameters, double max_norm);

// The same without waiting: the norm, a tensor [1], is on the device, where also the scaling is
// decided. Gradients that are not finite are not scaled; whoever reads the norm has to look. All
// parameters must lie on one device.
Tensor clip_global_norm_on_device(const std::vector<Parameter*>& parameters, double max_norm);

}  // namespace sketchgrad
