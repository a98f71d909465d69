#pragma once

#include <type_traits>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/skipped_loops.h"

// How a checked entry reaches its device body: the cpu:: function, or the cuda:: one of the same
// signature (from X_cuda.cu, or from no_cuda.cpp in a build without CUDA).
namespace sketchgrad::kernels {

// For bodies whose results are where things are and how many: they run in a trace, too, as the
// sizes of what comes after depend on them.
template <class Result, class... Parameters, class... Arguments>
Result dispatch_indices(const Exec& exec, Result (*on_cpu)(const Exec&, Parameters...),
                        Result (*on_cuda)(const Exec&, Parameters...),
                        const Arguments&... arguments) {
  return (exec.device == DeviceKind::cuda ? on_cuda : on_cpu)(exec, arguments...);
}

// For bodies that compute numbers. In a trace they take their scratch memory and leave out their
// loops, and what they return is 0.
template <class Result, class... Parameters, class... Arguments>
Result dispatch(const Exec& exec, Result (*on_cpu)(const Exec&, Parameters...),
                Result (*on_cuda)(const Exec&, Parameters...), const Arguments&... arguments) {
  if (!exec.trace) return dispatch_indices(exec, on_cpu, on_cuda, arguments...);
  const SkippedLoops skipped;
  if constexpr (std::is_void_v<Result>) {
    on_cpu(exec, arguments...);
  } else {
    static_cast<void>(on_cpu(exec, arguments...));
    return Result{};
  }
}

}  // namespace sketchgrad::kernels
