#include "sketchgrad/framework/device.h"

#include "sketchgrad/framework/check.h"
#include "sketchgrad/framework/memory.h"
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
  if (device == kCpu) return {device.kind, nullptr, &scratch_on<DeviceKind::cpu>()};
  return {device.kind, kernels::cuda::stream(), &scratch_on<DeviceKind::cuda>()};
}

void synchronize(Device device) {
  if (device == kCuda) kernels::cuda::synchronize(exec_on(device));
}

}  // namespace sketchgrad
