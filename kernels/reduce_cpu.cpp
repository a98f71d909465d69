#include "sketchgrad/kernels/reduce_impl.h"

namespace sketchgrad::kernels::cpu {

double sum(const Exec& exec, const float* in, int64_t count) {
  return impl::reduce_array<Value>(TbbPolicy{}, exec, in, count);
}

double sum_of_squares(const Exec& exec, const float* in, int64_t count) {
  return impl::reduce_array<Square>(TbbPolicy{}, exec, in, count);
}

void scaled_sum(const Exec& exec, const float* in, int64_t count, double factor, float* out) {
  *out = static_cast<float>(factor * sum(exec, in, count));
}

void add_sum_of_squares(const Exec& exec, const float* in, int64_t count, double* total) {
  *total += sum_of_squares(exec, in, count);
}

void clip_factor(const Exec&, const double* squares, double max_norm, float* norm, float* factor) {
  ClipFactor{squares, max_norm, norm, factor}(0);
}

void add_column_sums(const Exec& exec, ConstMatrix in, float* out) {
  impl::add_column_sums(TbbPolicy{}, exec, in, out);
}

}  // namespace sketchgrad::kernels::cpu
