#include <algorithm>
#include <mutex>

#include "sketchgrad/kernels/cublas.h"
#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/gemm_impl.h"

namespace sketchgrad::kernels::cuda {

namespace {

// What NVIDIA recommends for Hopper. It comes from our own allocator, so that it is counted, and so
// that a product's algorithm, and with it its bits, do not depend on what else has run.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

// Made at the first product; never destroyed, because the driver may be gone before a static is.
cublasHandle_t handle() {
  static const cublasHandle_t made = [] {
    cublasHandle_t created = nullptr;
    SG_CUBLAS_CHECK(cublasCreate_v2(&created));
    return created;
  }();
  return made;
}

// Calls that belong together: a handle's stream and workspace are the handle's.
std::mutex& handle_mutex() {
  static std::mutex mutex;
  return mutex;
}

cublasOperation_t operation(Transpose transpose) {
  return transpose == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N;
}
cublasComputeType_t compute_type(ProductPrecision precision) {
  switch (precision) {
    case ProductPrecision::fp32:
      return CUBLAS_COMPUTE_32F;
    case ProductPrecision::tf32:
      return CUBLAS_COMPUTE_32F_FAST_TF32;
    case ProductPrecision::bf16:
      return CUBLAS_COMPUTE_32F_FAST_16BF;
  }
  return CUBLAS_COMPUTE_32F;
}
int64_t leading_dimension(ConstMatrix matrix) {
  return std::max({matrix.stride, matrix.cols, int64_t{1}});
}

// c = beta c, for a product of depth 0, whose operands may be null.
struct ScaleRow {
  Matrix c;
  float beta;
  struct Column {
    float* row;
    float beta;
    SG_HD void operator()(int64_t j) const { row[j] = beta == 0.0f ? 0.0f : beta * row[j]; }
  };
  SG_HD Column operator()(int64_t r) const { return {c.row(r), beta}; }
};

}  // namespace

// cuBLAS stores columns one after the other: it is given the product of the transposes, c^T =
// op(b)^T op(a)^T, for which our rows are its columns.
void gemm(const Exec& exec, Transpose transpose_a, Transpose transpose_b, float alpha,
          ConstMatrix a, ConstMatrix b, float beta, Matrix c) {
  if (c.rows == 0 || c.cols == 0) return;
  const int64_t depth = transpose_a == Transpose::yes ? a.rows : a.cols;
  if (depth == 0) return for_each_row(CudaPolicy{exec}, c.rows, c.cols, ScaleRow{c, beta});
  const ScratchArray<char> workspace(exec, kWorkspaceBytes, "cublas.workspace");
  const std::lock_guard lock(handle_mutex());
  SG_CUBLAS_CHECK(cublasSetStream_v2(handle(), static_cast<cudaStream_t>(exec.stream)));
  SG_CUBLAS_CHECK(cublasSetWorkspace_v2(handle(), workspace.data(), kWorkspaceBytes));
  SG_CUBLAS_CHECK(cublasGemmEx_64(
      handle(), operation(transpose_b), operation(transpose_a), c.cols, c.rows, depth, &alpha,
      b.data, CUDA_R_32F, leading_dimension(b), a.data, CUDA_R_32F, leading_dimension(a), &beta,
      c.data, CUDA_R_32F, leading_dimension(c), compute_type(exec.products), CUBLAS_GEMM_DEFAULT));
}

}  // namespace sketchgrad::kernels::cuda
