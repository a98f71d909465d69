#pragma once

#include <cublas_v2.h>

#include <string>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::kernels {

inline void check_cublas(cublasStatus_t status, const char* expression) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(std::string("[cublas] ") + expression + " failed: " +
                  cublasGetStatusString(status) + " (" + cublasGetStatusName(status) + ")");
}

}  // namespace sketchgrad::kernels

// Every call into cuBLAS goes through this.
#define SG_CUBLAS_CHECK(expression) ::sketchgrad::kernels::check_cublas((expression), #expression)
