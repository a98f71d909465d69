#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::kernels {

inline void check_cuda(cudaError_t status, const char* expression) {
  if (status == cudaSuccess) return;
  // Errors that do not break the context would otherwise be reported again by a later, innocent
  // call.
  static_cast<void>(cudaGetLastError());
  throw CudaError(std::string("[cuda] ") + expression + " failed: " + cudaGetErrorString(status) +
                  " (" + cudaGetErrorName(status) + ")");
}

}  // namespace sketchgrad::kernels

// Every call into the CUDA runtime goes through this.
#define SG_CUDA_CHECK(expression) ::sketchgrad::kernels::check_cuda((expression), #expression)
