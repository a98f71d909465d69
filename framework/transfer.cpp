#include "sketchgrad/framework/transfer.h"

#include <cstring>

#include "sketchgrad/kernels/device.h"
#include "sketchgrad/kernels/for_each.h"

namespace sketchgrad {
namespace {

constexpr int64_t kGrain = kernels::kBlockElements * static_cast<int64_t>(sizeof(float));

void copy_on_host(const void* from, void* to, int64_t bytes) {
  kernels::for_each_range(kernels::TbbPolicy{}, bytes, kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                static_cast<size_t>(end - begin));
  });
}

void zero_on_host(void* to, int64_t bytes) {
  kernels::for_each_range(kernels::TbbPolicy{}, bytes, kGrain, [&](int64_t begin, int64_t end) {
    std::memset(static_cast<char*>(to) + begin, 0, static_cast<size_t>(end - begin));
  });
}

}  // namespace

void copy_bytes(Device from_device, const void* from, Device to_device, void* to, int64_t bytes) {
  if (bytes == 0) return;
  if (from_device == kCpu && to_device == kCpu) return copy_on_host(from, to, bytes);
  const kernels::Exec exec = exec_on(kCuda);
  const auto size = static_cast<size_t>(bytes);
  if (from_device == kCpu) return kernels::cuda::copy_to_device(exec, from, to, size);
  if (to_device == kCuda) return kernels::cuda::copy_on_device(exec, from, to, size);
  kernels::cuda::copy_to_host(exec, from, to, size);
  kernels::cuda::synchronize(exec);
}

void zero_bytes(Device device, void* to, int64_t bytes) {
  if (bytes == 0) return;
  if (device == kCpu) return zero_on_host(to, bytes);
  kernels::cuda::set_bytes(exec_on(device), to, 0, static_cast<size_t>(bytes));
}

}  // namespace sketchgrad
