#pragma once

#include <string>

#include "sketchgrad/kernels/exec.h"

namespace sketchgrad {

using kernels::DeviceKind;
using kernels::ProductPrecision;

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  bool operator==(const Device&) const = default;
};

inline constexpr Device kCpu{DeviceKind::cpu};
inline constexpr Device kCuda{DeviceKind::cuda};

// "cpu" or "cuda".
std::string to_string(Device);
// The opposite, of a device that can be used. Throws InvalidArgument for any other word; for cuda
// NotCompiled in a build without CUDA, and CudaError where there is no driver, one that is too old,
// or no GPU.
Device parse_device(const std::string& word);

// What kernels need to run on `device`: its stream, and scratch memory from its allocator (category
// workspace, or index for what says where things are). Throws as parse_device does.
kernels::Exec exec_on(Device device);

// "fp32", "tf32" or "bf16"; throws InvalidArgument for any other word.
ProductPrecision parse_product_precision(const std::string& word);
// What `device` may round the factors of matrix products to from now on, in all threads; fp32
// unless set. Throws InvalidArgument for anything else on the CPU.
void set_product_precision(Device device, ProductPrecision precision);

// Returns when all work queued on `device` has run; on the CPU nothing is ever queued.
void synchronize(Device device);

}  // namespace sketchgrad
