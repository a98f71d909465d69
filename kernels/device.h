#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "sketchgrad/kernels/exec.h"

// What the framework needs of the CUDA runtime. All of it throws NotCompiled in a build without
// CUDA, and CudaError where a call into CUDA fails; as CUDA works asynchronously, that may be the
// failure of something queued long before. Works on the first device that CUDA shows
// (CUDA_VISIBLE_DEVICES chooses). Thread-safe.
namespace sketchgrad::kernels::cuda {

// Throws where nothing can run, with a line that says why.
void require_device();

// What that line says; empty where there is a device. Versions are CUDA's: 13000 for 13.0, and a
// driver of 0 is none.
std::string device_problem(int driver_version, int runtime_version, int devices);

// The one cudaStream_t on which the framework queues all work. It is made on first use, does not
// wait for the legacy default stream, and is never destroyed.
void* stream();

// Device memory, aligned to 256 bytes. Null where there is none left. May wait for the device.
void* allocate(size_t bytes);
// Waits until the device is idle, so that work that is queued on the memory is done before it goes.
// A failure is not told: one that matters comes back from the next call.
void release(void* pointer) noexcept;

// The following are queued on the stream of the Exec.
//
// From memory of the host to the device. `from` may change as soon as this returns: the bytes go
// through pinned memory (16 MiB, made on first use). So up to 1 MiB waits only where 16 copies are
// in flight already, and more is passed on in pieces of 1 MiB.
void copy_to_device(const Exec&, const void* from, void* to, size_t bytes);
// From the device to memory of the host; `to` holds the bytes after synchronize.
void copy_to_host(const Exec&, const void* from, void* to, size_t bytes);
// Within the device; the arrays must not overlap.
void copy_on_device(const Exec&, const void* from, void* to, size_t bytes);
void set_bytes(const Exec&, void* to, uint8_t value, size_t bytes);

// Returns when everything queued on the stream of the Exec has run.
void synchronize(const Exec&);

// Of the whole device, in bytes: what other programs hold is not free either.
struct DeviceMemory {
  int64_t free = 0;
  int64_t total = 0;
};
DeviceMemory device_memory();

// "NVIDIA H100 80GB HBM3"
std::string device_name();

}  // namespace sketchgrad::kernels::cuda
