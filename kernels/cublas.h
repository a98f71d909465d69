#pragma once

#include <cublas_v2.h>

#include <string>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/shared_library.h"

namespace sketchgrad::kernels {

// The functions of cuBLAS that we use, loaded at the first product. (The _v2 of some names stands
// behind macros of the header.)
struct Cublas {
  SharedLibrary library{
      "cuBLAS", {"libcublas.so." + std::to_string(CUBLAS_VER_MAJOR), SKETCHGRAD_CUBLAS_LIBRARY}};
  SG_LIBRARY_FUNCTION(cublasCreate_v2);
  SG_LIBRARY_FUNCTION(cublasSetStream_v2);
  SG_LIBRARY_FUNCTION(cublasSetWorkspace_v2);
  SG_LIBRARY_FUNCTION(cublasGemmEx_64);
  SG_LIBRARY_FUNCTION(cublasGetStatusName);
  SG_LIBRARY_FUNCTION(cublasGetStatusString);
};

// Never destroyed, because the driver may be gone before a static is.
inline const Cublas& cublas() {
  static const Cublas& loaded = *new Cublas;
  return loaded;
}

inline void check_cublas(cublasStatus_t status, const char* expression) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(std::string("[cublas] ") + expression +
                  " failed: " + cublas().cublasGetStatusString(status) + " (" +
                  cublas().cublasGetStatusName(status) + ")");
}

}  // namespace sketchgrad::kernels

// Every call into cuBLAS goes through this.
#define SG_CUBLAS_CHECK(expression) \
  ::sketchgrad::kernels::check_cublas(::sketchgrad::kernels::cublas().expression, #expression)
