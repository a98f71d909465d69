#include "sketchgrad/kernels/reduce.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/reduce_impl.h"

namespace sketchgrad::kernels {

double sum(const Exec& exec, const float* in, int64_t count) {
  check_count("sum", "count", count);
  check_array("sum", "in", in, count);
  return dispatch(exec, cpu::sum, cuda::sum, in, count);
}

double sum_of_squares(const Exec& exec, const float* in, int64_t count) {
  check_count("sum_of_squares", "count", count);
  check_array("sum_of_squares", "in", in, count);
  return dispatch(exec, cpu::sum_of_squares, cuda::sum_of_squares, in, count);
}

void scaled_sum(const Exec& exec, const float* in, int64_t count, double factor, float* out) {
  check_count("scaled_sum", "count", count);
  check_array("scaled_sum", "in", in, count);
  check_array("scaled_sum", "out", out, 1);
  dispatch(exec, cpu::scaled_sum, cuda::scaled_sum, in, count, factor, out);
}

void add_sum_of_squares(const Exec& exec, const float* in, int64_t count, double* total) {
  check_count("add_sum_of_squares", "count", count);
  check_array("add_sum_of_squares", "in", in, count);
  check_array("add_sum_of_squares", "total", total, 1);
  dispatch(exec, cpu::add_sum_of_squares, cuda::add_sum_of_squares, in, count, total);
}

void clip_factor(const Exec& exec, const double* squares, double max_norm, float* norm,
                 float* factor) {
  check_array("clip_factor", "squares", squares, 1);
  check_array("clip_factor", "norm", norm, 1);
  check_array("clip_factor", "factor", factor, 1);
  dispatch(exec, cpu::clip_factor, cuda::clip_factor, squares, max_norm, norm, factor);
}

void add_column_sums(const Exec& exec, ConstMatrix in, float* out) {
  check_matrix("add_column_sums", "in", in);
  check_array("add_column_sums", "out", out, in.rows > 0 ? in.cols : 0);
  dispatch(exec, cpu::add_column_sums, cuda::add_column_sums, in, out);
}

}  // namespace sketchgrad::kernels
