#include "sketchgrad/framework/device.h"

#include <atomic>

#include "sketchgrad/framework/check.h"
#include "sketchgrad/framework/memory.h"
#include "sketchgrad/framework/memory_trace.h"
#include "sketchgrad/kernels/device.h"

namespace sketchgrad {
namespace {

class AllocatorScratch final : public kernels::Scratch {
 public:
  explicit AllocatorScratch(Allocator& allocator) : allocator_(allocator) {}
  void* take(size_t bytes, kernels::ScratchKind kind, const char* name) override {
    const Category category =
        kind == kernels::ScratchKind::indices ? Category::index : Category::workspace;
    return allocator_.allocate(static_cast<int64_t>(bytes), category, name);
  }
  void give_back(void* pointer) noexcept override { allocator_.release(pointer); }

 private:
  Allocator& allocator_;
};

std::atomic<ProductPrecision> cuda_products{ProductPrecision::fp32};

// Not destroyed, like the allocators: static tensors may outlive any static of this file.
template <DeviceKind kKind>
kernels::Scratch& scratch_on() {
  static AllocatorScratch& scratch = *new AllocatorScratch(allocator({kKind}));
  return scratch;
}

}  // namespace

std::string to_string(Device device) { return device == kCpu ? "cpu" : "cuda"; }

Device parse_device(const std::string& word) {
  if (word == "cpu") return kCpu;
  if (word == "cuda") {
    kernels::cuda::require_device();
    return kCuda;
  }
  throw InvalidArgument(fmt::format("[device] \"{}\" is neither cpu nor cuda", word));
}

kernels::Exec exec_on(Device device) {
  if (device == kCpu) {
    return {.scratch = &scratch_on<DeviceKind::cpu>(), .trace = MemoryTrace::active()};
  }
  check(!MemoryTrace::active(), "[memory trace] CUDA is not traced");
  return {device.kind, kernels::cuda::stream(), &scratch_on<DeviceKind::cuda>(), cuda_products};
}

ProductPrecision parse_product_precision(const std::string& word) {
  if (word == "fp32") return ProductPrecision::fp32;
  if (word == "tf32") return ProductPrecision::tf32;
  if (word == "bf16") return ProductPrecision::bf16;
  throw InvalidArgument(fmt::format("[precision] \"{}\" is none of fp32, tf32, bf16", word));
}

void set_product_precision(Device device, ProductPrecision precision) {
  if (device == kCuda) {
    cuda_products = precision;
    return;
  }
  check(precision == ProductPrecision::fp32,
        "[precision] products on the CPU are in fp32; tf32 and bf16 are for cuda");
}

void synchronize(Device device) {
  if (device == kCuda) kernels::cuda::synchronize(exec_on(device));
}

}  // namespace sketchgrad
