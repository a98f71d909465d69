#pragma once

#include <cstdint>
#include <type_traits>

#include "sketchgrad/kernels/cuda_check.h"
#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/launch.h"

namespace sketchgrad::kernels {

// The CUDA loop policy: for_each and for_each_row as in for_each.h, one thread per element, queued
// on `stream`. Functors travel by value and hold device pointers.
struct CudaPolicy {
  explicit CudaPolicy(const Exec& exec) : stream(static_cast<cudaStream_t>(exec.stream)) {}
  cudaStream_t stream;
};

template <class F>
__global__ void for_each_kernel(int64_t count, F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) f(i);
}

template <class F>
__global__ void for_each_row_kernel(int64_t rows, int64_t cols, F f) {
  const int64_t row_step = int64_t{gridDim.x} * blockDim.y;
  const int64_t col_step = int64_t{gridDim.y} * blockDim.x;
  const int64_t first_col = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (first_col >= cols) return;
  for (int64_t r = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; r < rows; r += row_step) {
    const auto column = f(r);
    for (int64_t c = first_col; c < cols; c += col_step) column(c);
  }
}

template <class... Parameters, class... Arguments>
void launch(const CudaPolicy& policy, LaunchShape shape, void (*kernel)(Parameters...),
            const Arguments&... arguments) {
  static_assert((std::is_trivially_copyable_v<Arguments> && ...),
                "kernel arguments are copied to the device bit by bit");
  if (shape.grid_x == 0 || shape.grid_y == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.grid_x, shape.grid_y);
  config.blockDim = dim3(shape.block_x, shape.block_y);
  config.stream = policy.stream;
  SG_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
}

template <class F>
void for_each(const CudaPolicy& policy, int64_t count, const F& f) {
  launch(policy, launch_shape(count), for_each_kernel<F>, count, f);
}

template <class F>
void for_each_row(const CudaPolicy& policy, int64_t rows, int64_t cols, const F& f) {
  launch(policy, row_launch_shape(rows, cols), for_each_row_kernel<F>, rows, cols, f);
}

}  // namespace sketchgrad::kernels
