#pragma once

#include <cstdint>

#include "sketchgrad/framework/device.h"

// How bytes of tensors get from where they are to where they are wanted: the one place that decides
// by devices.
namespace sketchgrad {

// The arrays must not overlap. What a pointer stands for must be memory of the device named with
// it. On the CPU the bytes are there on return. To CUDA they are queued on its stream, but `from`
// may change on return; small arrays do not wait for work queued before them
// (kernels::cuda::copy_to_device). From CUDA to the CPU this waits for all work queued before.
void copy_bytes(Device from_device, const void* from, Device to_device, void* to, int64_t bytes);

void zero_bytes(Device, void* to, int64_t bytes);

}  // namespace sketchgrad
