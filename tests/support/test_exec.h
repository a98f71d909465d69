#pragma once

#include <cstdlib>
#include <new>

#include "sketchgrad/kernels/exec.h"

// Test support: a place to run kernels that needs nothing of the framework.
namespace sketchgrad::test {

// Scratch memory from the heap. Thread-safe.
class HeapScratch final : public kernels::Scratch {
 public:
  void* take(size_t bytes, kernels::ScratchKind, const char* /*name*/) override {
    constexpr size_t kAlignment = 64;
    const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    void* pointer = std::aligned_alloc(kAlignment, rounded);
    if (pointer == nullptr) throw std::bad_alloc();
    return pointer;
  }
  void give_back(void* pointer) noexcept override { std::free(pointer); }
};

// The CPU, with scratch memory from the heap.
inline kernels::Exec cpu_exec() {
  static HeapScratch scratch;
  return {kernels::DeviceKind::cpu, nullptr, &scratch};
}

}  // namespace sketchgrad::test
