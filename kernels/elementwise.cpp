#include "sketchgrad/kernels/elementwise.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/elementwise_impl.h"

namespace sketchgrad::kernels {

void fill(const Exec& exec, float* out, int64_t count, float value) {
  check_count("fill", "count", count);
  check_array("fill", "out", out, count);
  dispatch(exec, cpu::fill, cuda::fill, out, count, value);
}

void copy(const Exec& exec, const float* in, float* out, int64_t count) {
  check_count("copy", "count", count);
  check_array("copy", "in", in, count);
  check_array("copy", "out", out, count);
  dispatch(exec, cpu::copy, cuda::copy, in, out, count);
}

void scale(const Exec& exec, const float* in, float scale, float* out, int64_t count) {
  check_count("scale", "count", count);
  check_array("scale", "in", in, count);
  check_array("scale", "out", out, count);
  dispatch(exec, cpu::scale, cuda::scale, in, scale, out, count);
}

void scale_by(const Exec& exec, const float* in, const float* factor, float* out, int64_t count) {
  check_count("scale_by", "count", count);
  check_array("scale_by", "in", in, count);
  check_array("scale_by", "factor", factor, count > 0 ? 1 : 0);
  check_array("scale_by", "out", out, count);
  dispatch(exec, cpu::scale_by, cuda::scale_by, in, factor, out, count);
}

void add_scaled(const Exec& exec, const float* in, float scale, float* out, int64_t count) {
  check_count("add_scaled", "count", count);
  check_array("add_scaled", "in", in, count);
  check_array("add_scaled", "out", out, count);
  dispatch(exec, cpu::add_scaled, cuda::add_scaled, in, scale, out, count);
}

void unary(const Exec& exec, Unary op, const float* in, float* out, int64_t count) {
  check_count("unary", "count", count);
  check_array("unary", "in", in, count);
  check_array("unary", "out", out, count);
  dispatch(exec, cpu::unary, cuda::unary, op, in, out, count);
}

void unary_backward(const Exec& exec, Unary op, const float* out, const float* grad_out,
                    float* grad_in, int64_t count) {
  check_count("unary_backward", "count", count);
  check_array("unary_backward", "out", out, count);
  check_array("unary_backward", "grad_out", grad_out, count);
  check_array("unary_backward", "grad_in", grad_in, count);
  dispatch(exec, cpu::unary_backward, cuda::unary_backward, op, out, grad_out, grad_in, count);
}

void binary(const Exec& exec, Binary op, const float* a, const float* b, float* out,
            int64_t count) {
  check_count("binary", "count", count);
  check_array("binary", "a", a, count);
  check_array("binary", "b", b, count);
  check_array("binary", "out", out, count);
  dispatch(exec, cpu::binary, cuda::binary, op, a, b, out, count);
}

void add_row(const Exec& exec, Matrix matrix, const float* row) {
  check_matrix("add_row", "matrix", matrix);
  check_array("add_row", "row", row, matrix.rows > 0 ? matrix.cols : 0);
  dispatch(exec, cpu::add_row, cuda::add_row, matrix, row);
}

}  // namespace sketchgrad::kernels
