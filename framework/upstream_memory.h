#pragma once

#include <memory>

#include "sketchgrad/framework/memory.h"

namespace sketchgrad {

// The system's memory, in huge pages where blocks are large.
std::unique_ptr<UpstreamMemory> make_host_memory();
// cudaMalloc. Throws NotCompiled or CudaError where no GPU can be used.
std::unique_ptr<UpstreamMemory> make_cuda_memory();

}  // namespace sketchgrad
