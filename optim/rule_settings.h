#pragma once

namespace sketchgrad {

// Settings of a rule. Throw InvalidArgument with the names of both and the value:
// "[adam] beta1 is 1.5, it must be from 0 to below 1".

// At least 0, and finite.
void check_size(const char* rule, const char* setting, float value);
// In [0, 1).
void check_decay(const char* rule, const char* setting, float value);

}  // namespace sketchgrad
