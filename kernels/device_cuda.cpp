#include <cuda_runtime_api.h>

#include <array>

#include "sketchgrad/kernels/cuda_check.h"
#include "sketchgrad/kernels/device.h"
#include "sketchgrad/kernels/staging_ring.h"

namespace sketchgrad::kernels::cuda {
namespace {

constexpr size_t kStagingSlots = 16;
constexpr size_t kStagingSlotBytes = size_t{1} << 20;

cudaStream_t stream_of(const Exec& exec) { return static_cast<cudaStream_t>(exec.stream); }

// Streams, events and pinned memory are never destroyed: static tensors may outlive any static of
// this file, and the runtime itself any of them.
using Events = std::array<cudaEvent_t, kStagingSlots>;

const Events& staging_events() {
  static const Events events = [] {
    Events made{};
    for (cudaEvent_t& event : made) {
      SG_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    }
    return made;
  }();
  return events;
}

StagingRing& staging_ring() {
  static StagingRing& ring = [&]() -> StagingRing& {
    void* memory = nullptr;
    SG_CUDA_CHECK(cudaMallocHost(&memory, kStagingSlots * kStagingSlotBytes));
    return *new StagingRing(memory, kStagingSlots, kStagingSlotBytes);
  }();
  return ring;
}

class CudaStagingStream final : public StagingStream {
 public:
  explicit CudaStagingStream(cudaStream_t stream) : stream_(stream) {}
  void copy(const void* staged, void* to, size_t bytes) override {
    SG_CUDA_CHECK(cudaMemcpyAsync(to, staged, bytes, cudaMemcpyHostToDevice, stream_));
  }
  void record(size_t slot) override { SG_CUDA_CHECK(cudaEventRecord(events_[slot], stream_)); }
  void wait(size_t slot) override { SG_CUDA_CHECK(cudaEventSynchronize(events_[slot])); }

 private:
  cudaStream_t stream_;
  const Events& events_ = staging_events();
};

}  // namespace

void require_device() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaErrorInsufficientDriver && status != cudaErrorNoDevice) {
    check_cuda(status, "cudaGetDeviceCount(&devices)");
  }
  static_cast<void>(cudaGetLastError());
  int driver_version = 0;
  int runtime_version = 0;
  SG_CUDA_CHECK(cudaDriverGetVersion(&driver_version));
  SG_CUDA_CHECK(cudaRuntimeGetVersion(&runtime_version));
  const std::string problem = device_problem(driver_version, runtime_version, devices);
  if (!problem.empty()) throw CudaError(problem);
}

void* stream() {
  static void* const the_stream = [] {
    require_device();
    cudaStream_t made = nullptr;
    SG_CUDA_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return made;
  }();
  return the_stream;
}

void* allocate(size_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes);
  if (status == cudaErrorMemoryAllocation) {
    // Otherwise the next launch would report it.
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  check_cuda(status, "cudaMalloc(&pointer, bytes)");
  return pointer;
}

void release(void* pointer) noexcept {
  // That cudaFree waits for streams like ours is what it does, not what it promises.
  static_cast<void>(cudaDeviceSynchronize());
  static_cast<void>(cudaFree(pointer));
  // Otherwise a failure would be taken for that of a later, innocent call.
  static_cast<void>(cudaGetLastError());
}

void copy_to_device(const Exec& exec, const void* from, void* to, size_t bytes) {
  CudaStagingStream on(stream_of(exec));
  staging_ring().copy(on, from, to, bytes);
}

void copy_to_host(const Exec& exec, const void* from, void* to, size_t bytes) {
  SG_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(exec)));
}

void copy_on_device(const Exec& exec, const void* from, void* to, size_t bytes) {
  SG_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(exec)));
}

void set_bytes(const Exec& exec, void* to, uint8_t value, size_t bytes) {
  SG_CUDA_CHECK(cudaMemsetAsync(to, value, bytes, stream_of(exec)));
}

void synchronize(const Exec& exec) { SG_CUDA_CHECK(cudaStreamSynchronize(stream_of(exec))); }

DeviceMemory device_memory() {
  size_t free = 0;
  size_t total = 0;
  SG_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

std::string device_name() {
  int device = 0;
  cudaDeviceProp properties{};
  SG_CUDA_CHECK(cudaGetDevice(&device));
  SG_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  return properties.name;
}

}  // namespace sketchgrad::kernels::cuda
