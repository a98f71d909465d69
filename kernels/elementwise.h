#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

// Elementwise maps over contiguous arrays of `count` floats. Outputs may be the same array as an
// input; they may not overlap otherwise.
namespace sketchgrad::kernels {

enum class Unary : uint8_t { relu, sigmoid, tanh };
enum class Binary : uint8_t { add, subtract, multiply };

void fill(const Exec&, float* out, int64_t count, float value);
void copy(const Exec&, const float* in, float* out, int64_t count);
// out = scale * in
void scale(const Exec&, const float* in, float scale, float* out, int64_t count);
// out = *factor * in; factor lies where the arrays lie
void scale_by(const Exec&, const float* in, const float* factor, float* out, int64_t count);
// out += scale * in
void add_scaled(const Exec&, const float* in, float scale, float* out, int64_t count);

void unary(const Exec&, Unary op, const float* in, float* out, int64_t count);
// grad_in = grad_out * op'(.), from the forward pass's output.
void unary_backward(const Exec&, Unary op, const float* out, const float* grad_out, float* grad_in,
                    int64_t count);
void binary(const Exec&, Binary op, const float* a, const float* b, float* out, int64_t count);

// matrix(r, c) += row[c]
void add_row(const Exec&, Matrix matrix, const float* row);

}  // namespace sketchgrad::kernels
