#include "sketchgrad/framework/upstream_memory.h"

#include <sys/mman.h>

#include <cstdlib>

#include "sketchgrad/framework/memory_trace.h"

namespace sketchgrad {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHugeBlock = 2 * kHugePage;

class HostMemory final : public UpstreamMemory {
 public:
  void* allocate(size_t bytes) override {
    return bytes < kHugeBlock ? std::aligned_alloc(static_cast<size_t>(alignment()), bytes)
                              : map_aligned(bytes);
  }
  void release(void* pointer, size_t bytes) noexcept override {
    if (bytes < kHugeBlock) {
      std::free(pointer);
    } else {
      munmap(pointer, bytes);
    }
  }

 private:
  // Page faults and TLB misses of 4 KiB pages cost real time on large tables.
  static void* map_aligned(size_t bytes) {
    const size_t mapped = bytes + kHugePage;
    // Of a trace, most of it is never touched.
    const int reserve = MemoryTrace::active() ? MAP_NORESERVE : 0;
    void* const mapping =
        mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | reserve, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    char* const begin = static_cast<char*>(mapping);
    const size_t misaligned = reinterpret_cast<uintptr_t>(begin) % kHugePage;
    const size_t head = misaligned == 0 ? 0 : kHugePage - misaligned;
    char* const block = begin + head;
    if (head > 0) munmap(begin, head);
    munmap(block + bytes, kHugePage - head);
    madvise(block, bytes, MADV_HUGEPAGE);
    return block;
  }
};

class CudaMemory final : public UpstreamMemory {
 public:
  CudaMemory() { kernels::cuda::require_device(); }
  void* allocate(size_t bytes) override { return kernels::cuda::allocate(bytes); }
  void release(void* pointer, size_t) noexcept override { kernels::cuda::release(pointer); }
  int64_t alignment() const override { return 256; }
  std::optional<kernels::cuda::DeviceMemory> device_memory() const override {
    try {
      return kernels::cuda::device_memory();
    } catch (const CudaError&) {  // a device in trouble must not hide what the report is for
      return std::nullopt;
    }
  }
};

}  // namespace

std::unique_ptr<UpstreamMemory> make_host_memory() { return std::make_unique<HostMemory>(); }
std::unique_ptr<UpstreamMemory> make_cuda_memory() { return std::make_unique<CudaMemory>(); }

}  // namespace sketchgrad
