#pragma once

#include "sketchgrad/framework/device.h"

// The device of tests that stand in several programs: the CPU, or, in those for GPUs, CUDA.
namespace sketchgrad::test {

#if defined(SKETCHGRAD_TEST_ON_CUDA)
inline constexpr Device kTestDevice = kCuda;
#else
inline constexpr Device kTestDevice = kCpu;
#endif

}  // namespace sketchgrad::test
