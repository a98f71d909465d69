#include "sketchgrad/optim/rule_settings.h"

#include <cmath>

#include "sketchgrad/framework/check.h"

namespace sketchgrad {

void check_size(const char* rule, const char* setting, float value) {
  check(std::isfinite(value) && value >= 0.0f, "[{}] {} is {}, it must be finite and at least 0",
        rule, setting, value);
}

void check_decay(const char* rule, const char* setting, float value) {
  check(value >= 0.0f && value < 1.0f, "[{}] {} is {}, it must be from 0 to below 1", rule, setting,
        value);
}

}  // namespace sketchgrad
