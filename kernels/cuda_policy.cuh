#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "sketchgrad/kernels/cuda_check.h"
#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/lane_group.h"
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
    if constexpr (requires { f.skip(r); }) {
      if (f.skip(r)) continue;
    }
    const auto column = f(r);
    for (int64_t c = first_col; c < cols; c += col_step) column(c);
  }
}

// See lane_group.h.
class CudaLaneGroup {
 public:
  explicit __device__ CudaLaneGroup(int lanes)
      : lanes_(lanes), first_(static_cast<int>(threadIdx.x) % kWarpLanes / lanes * lanes) {}
  __device__ int lane() const { return static_cast<int>(threadIdx.x) % lanes_; }
  __device__ int lanes() const { return lanes_; }
  template <class T>
  __device__ T exchange(T value, int mask) const {
    static_assert(sizeof(T) % sizeof(int) == 0 && std::is_trivially_copyable_v<T>);
    int words[sizeof(T) / sizeof(int)];
    memcpy(words, &value, sizeof(T));
    for (int& word : words) word = __shfl_xor_sync(members(), word, mask, kWarpLanes);
    memcpy(&value, words, sizeof(T));
    return value;
  }
  __device__ void sync() const { __syncwarp(members()); }

 private:
  // Lane groups of one warp go their own ways, so each names its threads.
  __device__ unsigned members() const { return (0xffffffffu >> (kWarpLanes - lanes_)) << first_; }

  int lanes_;
  int first_;  // thread of the warp
};

template <class Body>
__global__ void __launch_bounds__(kThreadsPerBlock)
    lane_group_kernel(int64_t units, int lanes, Body body) {
  const CudaLaneGroup group(lanes);
  const int64_t groups = blockDim.x / lanes;
  const int64_t step = int64_t{gridDim.x} * groups;
  for (int64_t unit = blockIdx.x * groups + threadIdx.x / lanes; unit < units; unit += step) {
    body(group, unit);
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

template <class Body>
void for_each_unit(const CudaPolicy& policy, int64_t units, int lanes, const Body& body) {
  launch(policy, lane_launch_shape(units, lanes), lane_group_kernel<Body>, units, lanes, body);
}

}  // namespace sketchgrad::kernels
