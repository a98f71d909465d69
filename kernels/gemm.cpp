#include "sketchgrad/kernels/gemm.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/gemm_impl.h"

namespace sketchgrad::kernels {

void gemm(const Exec& exec, Transpose transpose_a, Transpose transpose_b, float alpha,
          ConstMatrix a, ConstMatrix b, float beta, Matrix c) {
  check_matrix("gemm", "a", a);
  check_matrix("gemm", "b", b);
  check_matrix("gemm", "c", c);
  const bool swap_a = transpose_a == Transpose::yes;
  const bool swap_b = transpose_b == Transpose::yes;
  const int64_t m = swap_a ? a.cols : a.rows, k_of_a = swap_a ? a.rows : a.cols;
  const int64_t n = swap_b ? b.rows : b.cols, k_of_b = swap_b ? b.cols : b.rows;
  if (k_of_a != k_of_b || c.rows != m || c.cols != n) {
    refuse("gemm", "op(a) [{}, {}] times op(b) [{}, {}] does not give c [{}, {}]", m, k_of_a,
           k_of_b, n, c.rows, c.cols);
  }
  dispatch(exec, cpu::gemm, cuda::gemm, transpose_a, transpose_b, alpha, a, b, beta, c);
}

int64_t gemm_scratch_bytes(int64_t m, int64_t n, int64_t k) {
  if (m == 0 || n == 0 || k == 0) return 0;
  const int64_t slices = impl::plan_gemm(m, n, k).slices;
  return slices > 1 ? slices * m * n * static_cast<int64_t>(sizeof(float)) : 0;
}

}  // namespace sketchgrad::kernels
