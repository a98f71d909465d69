#pragma once

#include <string>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/exec.h"

// How a checked entry reaches its device body: the cpu:: function, or the cuda:: one of the same
// signature (from X_cuda.cu, or from no_cuda.cpp in a build without CUDA).
namespace sketchgrad::kernels {

template <class Result, class... Parameters, class... Arguments>
Result dispatch(const Exec& exec, Result (*on_cpu)(const Exec&, Parameters...),
                Result (*on_cuda)(const Exec&, Parameters...), const Arguments&... arguments) {
  return (exec.device == DeviceKind::cuda ? on_cuda : on_cpu)(exec, arguments...);
}

// For ops that have no CUDA body yet.
inline void require_cpu(const Exec& exec, const char* op) {
  if (exec.device == DeviceKind::cpu) return;
  throw NotCompiled(std::string("[") + op + "] is not available on CUDA in this version");
}

}  // namespace sketchgrad::kernels
