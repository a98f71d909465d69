#pragma once

#include "sketchgrad/kernels/cuda_check.h"
#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/reduce_lanes.h"

namespace sketchgrad::kernels {

// A result that the host asks for: waits for all work on the stream.
template <class T>
T read_back(const CudaPolicy& policy, const T* on_device) {
  T value;
  SG_CUDA_CHECK(
      cudaMemcpyAsync(&value, on_device, sizeof(T), cudaMemcpyDeviceToHost, policy.stream));
  SG_CUDA_CHECK(cudaStreamSynchronize(policy.stream));
  return value;
}

template <class T, class Map, class Combine>
T reduce_to_host(const Exec& exec, int64_t count, const Map& map, const Combine& combine,
                 T neutral) {
  const CudaPolicy policy{exec};
  const ScratchArray<T> total(exec, 1, "reduce.total");
  reduce_by_lanes<T>(policy, exec, count, map, combine, neutral, StoreResult<T>{total.data()});
  return read_back(policy, total.data());
}

}  // namespace sketchgrad::kernels
