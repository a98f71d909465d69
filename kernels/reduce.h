#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

// Reductions with a fixed order of summation (blocks by shape, then block by block), accumulated in
// double across blocks: the same bits for any number of threads.
namespace sketchgrad::kernels {

// To the host. On CUDA these wait for all work on the stream.
double sum(const Exec&, const float* in, int64_t count);
double sum_of_squares(const Exec&, const float* in, int64_t count);
// To where `in` lies: *out = factor * sum, *total += sum of squares.
void scaled_sum(const Exec&, const float* in, int64_t count, double factor, float* out);
void add_sum_of_squares(const Exec&, const float* in, int64_t count, double* total);
// *norm = sqrt(*squares); *factor = max_norm / norm where that is below 1, else 1 (and 1 for a norm
// that is no number). All lie on the device.
void clip_factor(const Exec&, const double* squares, double max_norm, float* norm, float* factor);
// out[c] += sum over r of in(r, c)
void add_column_sums(const Exec&, ConstMatrix in, float* out);

}  // namespace sketchgrad::kernels
