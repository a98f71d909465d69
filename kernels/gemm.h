#pragma once

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

enum class Transpose : bool { no, yes };

// c = alpha * op(a) op(b) + beta * c, row-major with strides. Elements are float32; on CUDA factors
// are rounded as Exec::products allows.
// Shapes: op(a) [m, k], op(b) [k, n], c [m, n]; any of them may be 0. With beta == 0, c is not
// read. The product is cut into tiles by shape alone; one task computes a tile (or, where m * n is
// small and k is large, a slice of k into a buffer that is summed in order): same bits for any
// thread count.
void gemm(const Exec&, Transpose transpose_a, Transpose transpose_b, float alpha, ConstMatrix a,
          ConstMatrix b, float beta, Matrix c);

// Bytes of temporary memory that a product [m, k] x [k, n] takes on the CPU.
int64_t gemm_scratch_bytes(int64_t m, int64_t n, int64_t k);

}  // namespace sketchgrad::kernels
