#pragma once

#include "sketchgrad/kernels/exec.h"

// How a checked entry reaches its device body: the cpu:: function, or the cuda:: one of the same
// signature (from X_cuda.cu, or from no_cuda.cpp in a build without CUDA).
namespace sketchgrad::kernels {

template <class Result, class... Parameters, class... Arguments>
Result dispatch(const Exec& exec, Result (*on_cpu)(const Exec&, Parameters...),
                Result (*on_cuda)(const Exec&, Parameters...), const Arguments&... arguments) {
  return (exec.device == DeviceKind::cuda ? on_cuda : on_cpu)(exec, arguments...);
}

}  // namespace sketchgrad::kernels
