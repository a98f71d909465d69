#include "sketchgrad/framework/tensor.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "sketchgrad/framework/memory_trace.h"
#include "sketchgrad/framework/transfer.h"
#include "sketchgrad/kernels/elementwise.h"

namespace sketchgrad {
namespace {

// Called for every tensor, so the message is only made where it is needed.
[[noreturn]] void refuse_shape(const Shape& shape, std::string_view problem) {
  throw InvalidArgument(fmt::format("[tensor] shape {} {}", to_string(shape), problem));
}

// In a trace numbers are neither written nor read; integers say where things are.
bool left_out(DType dtype) {
  return MemoryTrace::active() && dtype != DType::int32 && dtype != DType::int64;
}

}  // namespace

struct Tensor::Storage {
  Storage(int64_t bytes, Purpose purpose, Device where)
      : device(where), data(allocator(where).allocate(bytes, purpose.category, purpose.name)) {}
  ~Storage() { allocator(device).release(data); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device device;
  void* data;
};

int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::int64:
      return 8;
    case DType::bfloat16:
      return 2;
    case DType::uint8:
      return 1;
    default:
      return 4;
  }
}

std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::int32:
      return "int32";
    case DType::int64:
      return "int64";
    case DType::bfloat16:
      return "bfloat16";
    case DType::uint8:
      return "uint8";
  }
  return "unknown";
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

int64_t element_count(const Shape& shape) {
  // Byte counts of any type fit too, and so do products with an empty axis left out.
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 8;
  int64_t count = 1;
  bool has_empty_axis = false;
  for (const int64_t size : shape) {
    if (size < 0) refuse_shape(shape, "has a negative axis");
    has_empty_axis |= size == 0;
    if (size == 0) continue;
    if (count > kMost / size) refuse_shape(shape, "has more elements than 64 bits count");
    count *= size;
  }
  return has_empty_axis ? 0 : count;
}

Tensor Tensor::empty(const Shape& shape, Purpose purpose, DType dtype, Device device) {
  Tensor tensor;
  tensor.numel_ = element_count(shape);
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  tensor.storage_ = std::make_shared<Storage>(tensor.numel_ * size_of(dtype), purpose, device);
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape, Purpose purpose, DType dtype, Device device) {
  Tensor tensor = empty(shape, purpose, dtype, device);
  if (!left_out(dtype)) zero_bytes(device, tensor.raw(), tensor.bytes());
  return tensor;
}

Tensor Tensor::full(const Shape& shape, float value, Purpose purpose, Device device) {
  Tensor tensor = empty(shape, purpose, DType::float32, device);
  tensor.fill(value);
  return tensor;
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape, Purpose purpose,
                    Device device) {
  Tensor tensor = empty(shape, purpose, DTypeOf<T>::value, device);
  check(tensor.numel() == static_cast<int64_t>(values.size()),
        "[tensor] {} values for shape {}, which holds {}", values.size(), to_string(shape),
        tensor.numel());
  copy_bytes(kCpu, values.data(), device, tensor.raw(), tensor.bytes());
  return tensor;
}

template Tensor Tensor::from(const std::vector<float>&, const Shape&, Purpose, Device);
template Tensor Tensor::from(const std::vector<int32_t>&, const Shape&, Purpose, Device);
template Tensor Tensor::from(const std::vector<int64_t>&, const Shape&, Purpose, Device);
template Tensor Tensor::from(const std::vector<uint16_t>&, const Shape&, Purpose, Device);
template Tensor Tensor::from(const std::vector<uint8_t>&, const Shape&, Purpose, Device);

int64_t Tensor::size(int64_t axis) const {
  const int64_t positive = axis < 0 ? axis + dim() : axis;
  check(positive >= 0 && positive < dim(), "[tensor] axis {} of shape {}", axis, to_string(shape_));
  return shape_[static_cast<size_t>(positive)];
}

Device Tensor::device() const {
  check(defined(), "[tensor] the device of an undefined tensor");
  return storage_->device;
}

void* Tensor::raw() const {
  check(defined(), "[tensor] the data of an undefined tensor");
  return storage_->data == nullptr ? nullptr : static_cast<char*>(storage_->data) + offset_;
}

kernels::Matrix Tensor::matrix() const {
  float* const elements = data<float>();
  const int64_t cols = shape_.empty() ? 1 : shape_.back();
  int64_t rows = 1;
  for (size_t axis = 0; axis + 1 < shape_.size(); ++axis) rows *= shape_[axis];
  return kernels::contiguous(elements, rows, cols);
}

Tensor Tensor::reshape(Shape shape) const {
  check(defined(), "[reshape] an undefined tensor");
  const auto inferred = std::find(shape.begin(), shape.end(), -1);
  if (inferred != shape.end()) {
    Shape others = shape;
    others.erase(others.begin() + (inferred - shape.begin()));
    check(std::find(others.begin(), others.end(), -1) == others.end(),
          "[reshape] shape {} leaves more than one axis open", to_string(shape));
    const int64_t known = element_count(others);
    check(known > 0 && numel_ % known == 0, "[reshape] shape {} cannot hold the elements of {}",
          to_string(shape), to_string(shape_));
    *inferred = numel_ / known;
  }
  check(element_count(shape) == numel_, "[reshape] shape {} cannot hold the elements of {}",
        to_string(shape), to_string(shape_));
  Tensor view = *this;
  view.shape_ = std::move(shape);
  return view;
}

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  check(defined() && dim() >= 1, "[rows] a tensor without axes");
  const int64_t size = shape_[0];
  check(begin >= 0 && count >= 0 && begin <= size && count <= size - begin,
        "[rows] {} rows from row {} of shape {}", count, begin, to_string(shape_));
  Tensor view = *this;
  const int64_t row_elements = size > 0 ? numel_ / size : 0;
  view.shape_[0] = count;
  view.numel_ = count * row_elements;
  view.offset_ += begin * row_elements * size_of(dtype_);
  return view;
}

Tensor Tensor::clone(Purpose purpose) const {
  Tensor copy = empty(shape_, purpose, dtype_, device());
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::to(Device target, Purpose purpose) const {
  if (device() == target) return *this;
  const Tensor copy = empty(shape_, purpose, dtype_, target);
  copy.copy_from(*this);
  return copy;
}

void Tensor::copy_from(const Tensor& source) const {
  check(defined() && source.defined(), "[copy_from] an undefined tensor");
  check(shape_ == source.shape_ && dtype_ == source.dtype_, "[copy_from] {} {} from {} {}",
        to_string(dtype_), to_string(shape_), to_string(source.dtype_), to_string(source.shape_));
  if (raw() == source.raw() || left_out(dtype_)) return;
  copy_bytes(source.device(), source.raw(), device(), raw(), bytes());
}

void Tensor::fill(float value) const { kernels::fill(exec(), data<float>(), numel_, value); }

float Tensor::item() const {
  check(numel_ == 1, "[item] a tensor of shape {} is not one element", to_string(shape_));
  float value = 0;
  const float* const element = data<float>();
  if (!left_out(dtype_)) copy_bytes(device(), element, kCpu, &value, sizeof(value));
  return value;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const T* const elements = data<T>();
  std::vector<T> values(static_cast<size_t>(numel_));
  if (!left_out(dtype_)) copy_bytes(device(), elements, kCpu, values.data(), bytes());
  return values;
}

template std::vector<float> Tensor::to_vector() const;
template std::vector<int32_t> Tensor::to_vector() const;
template std::vector<int64_t> Tensor::to_vector() const;
template std::vector<uint16_t> Tensor::to_vector() const;
template std::vector<uint8_t> Tensor::to_vector() const;

}  // namespace sketchgrad
