#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/philox.h"

// Random arrays: element i is a function of (key, i) alone.
namespace sketchgrad::kernels {

// Uniform in [low, high), low < high.
void fill_uniform(const Exec&, PhiloxKey, float low, float high, float* out, int64_t count);
// Inverted dropout, probability in [0, 1): out = in / (1 - probability) where the draw keeps the
// element, else 0. The mask is not stored: calling it on the gradient with the same key is the
// backward pass. in == out is fine.
void dropout(const Exec&, PhiloxKey, float probability, const float* in, float* out, int64_t count);

}  // namespace sketchgrad::kernels
