#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/framework/check.h"
#include "sketchgrad/framework/device.h"
#include "sketchgrad/framework/memory.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad {

// bfloat16 elements are uint16_t: the upper half of a float (kernels/low_precision_rules.h).
enum class DType : uint8_t { float32, int32, int64, bfloat16, uint8 };
int64_t size_of(DType);
std::string_view to_string(DType);
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::int32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::int64;
};

template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::bfloat16;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::uint8;
};

using Shape = std::vector<int64_t>;
// "[35, 20, 200]"
std::string to_string(const Shape&);
int64_t element_count(const Shape&);

// What a tensor is for; decides where its bytes are counted.
struct Purpose {
  Category category = Category::activation;
  std::string_view name = "unnamed";
};

// Dense row-major array. Copying a Tensor shares its storage, like a shared_ptr; `clone` copies
// data. A view made by reshape or rows keeps the whole storage alive. Not synchronised: concurrent
// reads are fine, a write needs the storage to itself.
//
// What is written to a tensor on CUDA is queued on its stream, from CUDA or from the CPU; only what
// reads one into memory of the CPU (item, to_vector, copies) waits for it.
class Tensor {
 public:
  Tensor() = default;  // defined() is false

  static Tensor empty(const Shape&, Purpose, DType = DType::float32, Device = kCpu);
  static Tensor zeros(const Shape&, Purpose, DType = DType::float32, Device = kCpu);
  static Tensor full(const Shape&, float value, Purpose, Device = kCpu);
  // Copies `values` (row-major); their number must be that of the shape.
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape&, Purpose, Device = kCpu);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim() const { return static_cast<int64_t>(shape_.size()); }
  int64_t size(int64_t axis) const;  // negative axes count from the end
  int64_t numel() const { return numel_; }
  int64_t bytes() const { return numel_ * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const;
  // No other tensor or view shares the storage, so that writing to it is seen by nobody else.
  bool unique() const { return storage_.use_count() == 1; }
  kernels::Exec exec() const { return exec_on(device()); }

  // A pointer of the tensor's device. Throws InvalidArgument if T is not the tensor's type.
  template <class T>
  T* data() const {
    check(DTypeOf<T>::value == dtype_, "[tensor] {} data read as {}", to_string(dtype_),
          to_string(DTypeOf<T>::value));
    return static_cast<T*>(raw());
  }
  void* raw() const;

  // All leading axes folded into rows: [a, b, D] is seen as [a * b, D]. float32 only.
  kernels::Matrix matrix() const;

  // Same storage, other shape; one axis may be -1.
  Tensor reshape(Shape) const;
  // Same storage, entries [begin, begin + count) of the first axis.
  Tensor rows(int64_t begin, int64_t count) const;
  Tensor clone(Purpose) const;
  // The tensor itself where it is on `device` already (the purpose then stays its own), else a
  // copy.
  Tensor to(Device device, Purpose) const;
  // Same shape and type; across devices too. The tensors must be the same or not overlap.
  void copy_from(const Tensor& source) const;
  void fill(float value) const;
  // The value of a float32 tensor of one element.
  float item() const;
  template <class T>
  std::vector<T> to_vector() const;

 private:
  struct Storage;
  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // in bytes
  Shape shape_;
  int64_t numel_ = 0;
  DType dtype_ = DType::float32;
};

}  // namespace sketchgrad
