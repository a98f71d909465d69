#include "sketchgrad/framework/device.h"

#include "sketchgrad/framework/check.h"
#include "sketchgrad/framework/memory.h"

namespace sketchgrad {
namespace {

class AllocatorScratch final : public kernels::Scratch {
 public:
  explicit AllocatorScratch(Allocator& allocator) : allocator_(allocator) {}
  void* take(size_t bytes, const char* name) override {
    return allocator_.allocate(static_cast<int64_t>(bytes), Category::workspace, name);
  }
  void give_back(void* pointer) noexcept override { allocator_.release(pointer); }

 private:
  Allocator& allocator_;
};

}  // namespace

std::string to_string(Device device) { return device == kCpu ? "cpu" : "cuda"; }

Device parse_device(const std::string& word) {
  if (word == "cpu") return kCpu;
  if (word == "cuda") throw NotCompiled("[device] this version does not train on CUDA; use cpu");
  throw InvalidArgument(fmt::format("[device] \"{}\" is neither cpu nor cuda", word));
}

kernels::Exec exec_on(Device device) {
  Allocator& memory = allocator(device);
  // Not destroyed, like the allocator: static tensors may outlive any static of this file.
  static AllocatorScratch& scratch = *new AllocatorScratch(memory);
  return {device.kind, nullptr, &scratch};
}

}  // namespace sketchgrad
