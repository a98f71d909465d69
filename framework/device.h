#pragma once

#include <string>

#include "sketchgrad/kernels/exec.h"

namespace sketchgrad {

using kernels::DeviceKind;

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  bool operator==(const Device&) const = default;
};

inline constexpr Device kCpu{DeviceKind::cpu};

// "cpu" or "cuda".
std::string to_string(Device);
// The opposite; throws InvalidArgument for any other word, NotCompiled for a device that this build
// or this version cannot train on.
Device parse_device(const std::string& word);

// What kernels need to run on `device`: its stream, and scratch memory from its allocator (category
// workspace, or index for what says where things are).
kernels::Exec exec_on(Device device);

}  // namespace sketchgrad
