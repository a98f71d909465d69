#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sketchgrad/framework/tape.h"

namespace sketchgrad {

struct GradCheckOptions {
  double step = 1e-2;         // central difference
  double tolerance = 1e-2;    // on |analytic - numeric| / max(1, |analytic|, |numeric|)
  int64_t max_elements = 64;  // elements probed a parameter, spread over it
};

struct GradCheckResult {
  bool passed = true;
  double worst = 0;   // largest relative difference
  std::string where;  // "weight[12]: analytic 0.5, numeric 0.25" of the worst element
};

// Compares the gradients that backward leaves in `parameters` (dense or row-sparse) with central
// finite differences of loss, a function that must be pure: it builds its graph on the given tape
// from the parameters' present values. Parameters are restored, their gradients cleared.
GradCheckResult grad_check(const std::function<Variable(Tape&)>& loss,
                           const std::vector<Parameter*>& parameters, GradCheckOptions = {});

}  // namespace sketchgrad
