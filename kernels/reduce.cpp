#include "sketchgrad/kernels/reduce.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/reduce_impl.h"

namespace sketchgrad::kernels {

double sum(const Exec& exec, const float* in, int64_t count) {
  check_count("sum", "count", count);
  check_array("sum", "in", in, count);
  require_cpu(exec, "sum");
  return cpu::sum(exec, in, count);
}

double sum_of_squares(const Exec& exec, const float* in, int64_t count) {
  check_count("sum_of_squares", "count", count);
  check_array("sum_of_squares", "in", in, count);
  require_cpu(exec, "sum_of_squares");
  return cpu::sum_of_squares(exec, in, count);
}

void add_column_sums(const Exec& exec, ConstMatrix in, float* out) {
  check_matrix("add_column_sums", "in", in);
  check_array("add_column_sums", "out", out, in.rows > 0 ? in.cols : 0);
  require_cpu(exec, "add_column_sums");
  cpu::add_column_sums(exec, in, out);
}

}  // namespace sketchgrad::kernels
