#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/ops.h"
#include "sketchgrad/kernels/philox.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/tests/support/test_device.h"

// What the tests of layers share. Layers and data are on kTestDevice, ids and targets on the CPU,
// where a program has them.
namespace sketchgrad::test {

inline const Purpose kTestData{Category::data, "test"};

inline void set_values(const Tensor& tensor, const std::vector<float>& values) {
  tensor.copy_from(Tensor::from(values, tensor.shape(), kTestData));
}

inline void fill_normal(const Tensor& tensor, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  std::generate(values.begin(), values.end(), [&] { return normal(random); });
  set_values(tensor, values);
}

inline Tensor random_normal(const Shape& shape, uint64_t seed) {
  const Tensor result = Tensor::empty(shape, kTestData, DType::float32, kTestDevice);
  fill_normal(result, seed);
  return result;
}

// Ids in [0, limit), some of them several times.
inline Tensor random_ids(const Shape& shape, int32_t limit, uint64_t seed) {
  std::vector<int32_t> ids(static_cast<size_t>(element_count(shape)));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] =
        static_cast<int32_t>(kernels::philox_bits({seed, 0}, i) % static_cast<uint32_t>(limit));
  }
  return Tensor::from(ids, shape, kTestData);
}

inline Tensor ignored_targets(int64_t tokens) {
  return Tensor::from(std::vector<int32_t>(static_cast<size_t>(tokens), kernels::kIgnoredTarget),
                      {tokens}, kTestData);
}

// The mean of what `draw()` returns, and its standard error.
struct Estimate {
  double mean = 0;
  double error = 0;
};
template <class Draw>
Estimate estimate(int repeats, const Draw& draw) {
  double total = 0, squares = 0;
  for (int i = 0; i < repeats; ++i) {
    const double one = draw();
    total += one;
    squares += one * one;
  }
  const double mean = total / repeats;
  return {mean, std::sqrt((squares / repeats - mean * mean) / repeats)};
}

// A scalar that depends on every element of y in its own way.
inline Variable weighted_sum(Tape& tape, const Variable& y, const Tensor& weights) {
  return sum(tape, multiply(tape, y, Tape::constant(weights.reshape(y.value.shape()))));
}

// The gradient with a value for every element, whichever its kind.
inline std::vector<float> full_gradient(Parameter& parameter) {
  if (parameter.gradient.kind() == Gradient::Kind::dense) {
    return parameter.gradient.dense().to_vector<float>();
  }
  std::vector<float> result(static_cast<size_t>(parameter.value.numel()), 0.0f);
  if (parameter.gradient.empty()) return result;
  const RowSparse& rows = parameter.gradient.rows();
  const std::vector<int32_t> ids = rows.ids.to_vector<int32_t>();
  const std::vector<float> values = rows.values.to_vector<float>();
  const int64_t dim = rows.values.size(1);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0) continue;  // padding, on CUDA
    std::copy_n(values.begin() + static_cast<int64_t>(i) * dim, dim, result.begin() + ids[i] * dim);
  }
  return result;
}

// Largest |a - b| / max(1, |b|); infinite where sizes differ or a NaN is in the way.
inline double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = a.size() == b.size() ? 0.0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference =
        std::abs(double{a[i]} - double{b[i]}) / std::max(1.0f, std::abs(b[i]));
    worst = difference >= 0 ? std::max(worst, difference) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

inline double worst_difference(const Tensor& a, const Tensor& b) {
  return worst_difference(a.to_vector<float>(), b.to_vector<float>());
}

inline Parameter& find_parameter(const Module& module, const std::string& name) {
  for (Parameter* parameter : module.parameters()) {
    if (parameter->name == name) return *parameter;
  }
  throw Error("no parameter " + name);
}

inline int64_t live_bytes(Category category) { return allocator(kTestDevice).current()[category]; }

// A bound for differences: on a GPU sums run in another order, other products and sums are fused,
// and cuDNN has its own exp and tanh.
inline double tolerance(double on_cpu) { return kTestDevice == kCpu ? on_cpu : 10 * on_cpu; }

// The message of the InvalidArgument that `call` throws; empty if it throws none.
template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return {};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The cases of tests/golden/<name>.json. SKETCHGRAD_GOLDEN in the environment names another folder,
// for programs far from their sources.
inline nlohmann::json golden_cases(const std::string& name) {
  const char* const folder = std::getenv("SKETCHGRAD_GOLDEN");
  const std::string path =
      (folder != nullptr ? folder : std::string(SKETCHGRAD_SOURCE_DIR) + "/tests/golden") + "/" +
      name + ".json";
  std::ifstream file(path);
  if (!file) throw Error("cannot open " + path);
  return nlohmann::json::parse(file).at("cases");
}

inline std::vector<float> golden_values(const nlohmann::json& array) {
  return array.at("data").get<std::vector<float>>();
}

inline Tensor golden_tensor(const nlohmann::json& array) {
  return Tensor::from(golden_values(array), array.at("shape").get<Shape>(), kTestData, kTestDevice);
}

inline Tensor golden_ids(const nlohmann::json& array) {
  return Tensor::from(array.at("data").get<std::vector<int32_t>>(), array.at("shape").get<Shape>(),
                      kTestData);
}

}  // namespace sketchgrad::test
