#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "sketchgrad/framework/tensor.h"

// Test support: the same call on the CPU and on another device. On a GPU this tests its kernels;
// with the CPU as the other device, on any machine, it tests the tests.
namespace sketchgrad::test {

// |got - expected| <= relative * |expected| + of_largest * (largest |expected| of the output).
struct Tolerance {
  double relative = 0.0;
  double of_largest = 0.0;
};
inline constexpr Tolerance kExact{};

// One result of a call; doubles hold floats and 32-bit integers alike.
struct Output {
  std::string name;
  std::vector<double> values;
  Tolerance tolerance;
};
using Outputs = std::vector<Output>;

Output output(std::string name, const Tensor& tensor, Tolerance = kExact);
Output output(std::string name, double value, Tolerance = kExact);

// What is wrong with `got`; empty where it is as close as `expected` says. NaN and infinity must
// stand in the same places.
std::string difference(const Output& got, const Output& expected);
// The same, down to the last bit.
bool same_bits(const Outputs& a, const Outputs& b);

// Calls once on the CPU and twice on `other`, which must come close, and repeat its bits.
void compare_with_cpu(Device other, const std::function<Outputs(Device)>& call);

template <class T>
Tensor on(Device device, const std::vector<T>& values, const Shape& shape) {
  return Tensor::from(values, shape, {Category::data, "test"}, device);
}
template <class T>
Tensor on(Device device, const std::vector<T>& values) {
  return on(device, values, {static_cast<int64_t>(values.size())});
}

// A matrix in the middle of a wider one, so that rows are not contiguous and what lies beside them
// can be seen to stay.
inline constexpr int64_t kMargin = 3;
class Framed {
 public:
  // `values` holds rows * (cols + 2 kMargin) floats.
  Framed(Device device, const std::vector<float>& values, int64_t rows, int64_t cols)
      : storage_(on(device, values, {rows, cols + 2 * kMargin})), cols_(cols) {}
  static int64_t floats(int64_t rows, int64_t cols) { return rows * (cols + 2 * kMargin); }
  kernels::Matrix matrix() const { return storage_.matrix().columns(kMargin, cols_); }
  const Tensor& storage() const { return storage_; }

 private:
  Tensor storage_;
  int64_t cols_;
};

// Random inputs, the same in every run.
class Draw {
 public:
  explicit Draw(uint32_t seed) : random_(seed) {}
  std::vector<float> floats(int64_t count, float low = -1.0f, float high = 1.0f);
  std::vector<float> normals(int64_t count);
  // In [low, limit), as often as it happens.
  std::vector<int32_t> integers(int64_t count, int64_t low, int64_t limit);
  // `count` different ones in [0, limit), increasing.
  std::vector<int32_t> ids(int64_t count, int64_t limit);

 private:
  std::mt19937 random_;
};

}  // namespace sketchgrad::test
