#include "sketchgrad/kernels/elementwise_impl.h"

namespace sketchgrad::kernels::cpu {

void fill(const Exec&, float* out, int64_t count, float value) {
  impl::fill(TbbPolicy{}, out, count, value);
}

void copy(const Exec&, const float* in, float* out, int64_t count) {
  impl::copy(TbbPolicy{}, in, out, count);
}

void scale(const Exec&, const float* in, float scale, float* out, int64_t count) {
  impl::scale(TbbPolicy{}, in, scale, out, count);
}

void scale_by(const Exec&, const float* in, const float* factor, float* out, int64_t count) {
  impl::scale_by(TbbPolicy{}, in, factor, out, count);
}

void add_scaled(const Exec&, const float* in, float scale, float* out, int64_t count) {
  impl::add_scaled(TbbPolicy{}, in, scale, out, count);
}

void unary(const Exec&, Unary op, const float* in, float* out, int64_t count) {
  impl::unary(TbbPolicy{}, op, in, out, count);
}

void unary_backward(const Exec&, Unary op, const float* out, const float* grad_out, float* grad_in,
                    int64_t count) {
  impl::unary_backward(TbbPolicy{}, op, out, grad_out, grad_in, count);
}

void binary(const Exec&, Binary op, const float* a, const float* b, float* out, int64_t count) {
  impl::binary(TbbPolicy{}, op, a, b, out, count);
}

void add_row(const Exec&, Matrix matrix, const float* row) {
  impl::add_row(TbbPolicy{}, matrix, row);
}

}  // namespace sketchgrad::kernels::cpu
