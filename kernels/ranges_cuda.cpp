#include <nvtx3/nvToolsExt.h>

#include "sketchgrad/kernels/ranges.h"

namespace sketchgrad::kernels::cuda {

void push_range(const char* name) noexcept { nvtxRangePushA(name); }
void pop_range() noexcept { nvtxRangePop(); }

}  // namespace sketchgrad::kernels::cuda
