#pragma once

#include <cstddef>
#include <cstdint>

namespace sketchgrad::kernels {

enum class DeviceKind : uint8_t { cpu, cuda };

// Where kernels take temporary memory from; the framework's caching allocator implements it, so
// that every byte has a name. Called from the thread that launches the kernel, never inside a loop
// body.
class Scratch {
 public:
  virtual ~Scratch() = default;
  virtual void* take(size_t bytes, const char* name) = 0;
  virtual void give_back(void* pointer) noexcept = 0;
};

// Where an op runs. Passed first to every op; cheap to copy.
struct Exec {
  DeviceKind device = DeviceKind::cpu;
  void* stream = nullptr;  // cudaStream_t on CUDA, unused on the CPU
  Scratch* scratch = nullptr;
};

// Uninitialised temporary array of `count` elements, given back at the end of the scope.
template <class T>
class ScratchArray {
 public:
  ScratchArray(const Exec& exec, int64_t count, const char* name)
      : scratch_(exec.scratch),
        data_(count > 0 ? static_cast<T*>(
                              exec.scratch->take(static_cast<size_t>(count) * sizeof(T), name))
                        : nullptr) {}
  ~ScratchArray() {
    if (data_ != nullptr) scratch_->give_back(data_);
  }
  ScratchArray(const ScratchArray&) = delete;
  ScratchArray& operator=(const ScratchArray&) = delete;

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  Scratch* scratch_;
  T* data_;
};

}  // namespace sketchgrad::kernels
