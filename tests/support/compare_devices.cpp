#include "sketchgrad/tests/support/compare_devices.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

namespace sketchgrad::test {

namespace {

template <class T>
std::vector<double> as_doubles(const Tensor& tensor) {
  const std::vector<T> values = tensor.to_vector<T>();
  return {values.begin(), values.end()};
}

bool same_kind(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return (std::isinf(a) || std::isinf(b)) ? a == b : true;
}

}  // namespace

Output output(std::string name, const Tensor& tensor, Tolerance tolerance) {
  return {
      std::move(name),
      tensor.dtype() == DType::float32 ? as_doubles<float>(tensor) : as_doubles<int32_t>(tensor),
      tolerance};
}

Output output(std::string name, double value, Tolerance tolerance) {
  return {std::move(name), {value}, tolerance};
}

std::string difference(const Output& got, const Output& expected) {
  if (got.name != expected.name || got.values.size() != expected.values.size()) {
    return fmt::format("{} values of {} for {} of {}", got.values.size(), got.name,
                       expected.values.size(), expected.name);
  }
  double largest = 0.0;
  for (const double value : expected.values) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  const Tolerance& tolerance = expected.tolerance;
  for (size_t i = 0; i < got.values.size(); ++i) {
    const double a = got.values[i], b = expected.values[i];
    const double allowed = tolerance.relative * std::abs(b) + tolerance.of_largest * largest;
    if (!same_kind(a, b) || (std::isfinite(b) && std::abs(a - b) > allowed)) {
      return fmt::format("{}[{}] is {:.9g}, not {:.9g}; {:.3g} are allowed, the largest is {:.3g}",
                         got.name, i, a, b, allowed, largest);
    }
  }
  return "";
}

bool same_bits(const Outputs& a, const Outputs& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Output& x, const Output& y) {
    return x.values.size() == y.values.size() &&
           (x.values.empty() ||
            std::memcmp(x.values.data(), y.values.data(), x.values.size() * sizeof(double)) == 0);
  });
}

void compare_with_cpu(Device other, const std::function<Outputs(Device)>& call) {
  const Outputs expected = call(kCpu);
  const Outputs got = call(other);
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(difference(got[i], expected[i]) == "");
  CHECK(same_bits(call(other), got));
}

std::vector<float> Draw::floats(int64_t count, float low, float high) {
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(random_);
  return values;
}

std::vector<float> Draw::normals(int64_t count) {
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(random_);
  return values;
}

std::vector<int32_t> Draw::integers(int64_t count, int64_t low, int64_t limit) {
  std::uniform_int_distribution<int64_t> distribution(low, limit - 1);
  std::vector<int32_t> values(static_cast<size_t>(count));
  for (int32_t& value : values) value = static_cast<int32_t>(distribution(random_));
  return values;
}

std::vector<int32_t> Draw::ids(int64_t count, int64_t limit) {
  std::vector<int32_t> values(static_cast<size_t>(limit));
  std::iota(values.begin(), values.end(), 0);
  std::shuffle(values.begin(), values.end(), random_);
  values.resize(static_cast<size_t>(count));
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace sketchgrad::test
