#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::kernels {

enum class DeviceKind : uint8_t { cpu, cuda };

// What a matrix product may round its factors to: 24, 11 or 8 bits of mantissa. Sums are in
// float32.
enum class ProductPrecision : uint8_t { fp32, tf32, bf16 };

// What temporary memory holds: numbers of the computation, or where they are (keys, permutations).
enum class ScratchKind : uint8_t { values, indices };

// Where kernels take temporary memory from; the framework's caching allocator implements it, so
// that every byte has a name. Called from the thread that launches the kernel, never inside a loop
// body.
class Scratch {
 public:
  virtual ~Scratch() = default;
  virtual void* take(size_t bytes, ScratchKind, const char* name) = 0;
  virtual void give_back(void* pointer) noexcept = 0;
};

// Where an op runs. Passed first to every op; cheap to copy. `scratch` may be null for ops that
// take no temporary memory; the others then throw InvalidArgument.
struct Exec {
  DeviceKind device = DeviceKind::cpu;
  void* stream = nullptr;  // cudaStream_t on CUDA, unused on the CPU
  Scratch* scratch = nullptr;
  ProductPrecision products = ProductPrecision::fp32;  // of CUDA's; the CPU's are in float32
  // On the CPU: take the scratch memory, but compute nothing (dispatch.h).
  bool trace = false;
};

// Uninitialised temporary array of `count` elements, given back at the end of the scope.
template <class T>
class ScratchArray {
 public:
  ScratchArray(const Exec& exec, int64_t count, const char* name,
               ScratchKind kind = ScratchKind::values)
      : scratch_(exec.scratch) {
    if (count <= 0) return;
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    if (scratch_ == nullptr) {
      throw InvalidArgument("[scratch] " + std::to_string(bytes) + " bytes for \"" + name +
                            "\" from an Exec without scratch memory");
    }
    data_ = static_cast<T*>(scratch_->take(bytes, kind, name));
  }
  ~ScratchArray() {
    if (data_ != nullptr) scratch_->give_back(data_);
  }
  ScratchArray(const ScratchArray&) = delete;
  ScratchArray& operator=(const ScratchArray&) = delete;

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  Scratch* scratch_;
  T* data_ = nullptr;
};

}  // namespace sketchgrad::kernels
