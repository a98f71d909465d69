#pragma once

#include <tbb/global_control.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

// Test support: random arrays, and results under a given number of threads.
namespace sketchgrad::test {

inline std::vector<float> random_floats(int64_t count, uint32_t seed, float low = -1.0f,
                                        float high = 1.0f) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(generator);
  return values;
}

inline std::vector<float> random_normals(size_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

inline std::vector<int32_t> random_ids(int64_t count, int64_t limit, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int32_t> distribution(0, static_cast<int32_t>(limit - 1));
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = distribution(generator);
  return ids;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// Largest |out[i] - expected(i)| over max(1, |expected(i)|); infinite where one of them is NaN.
template <class F>
double largest_error(const std::vector<float>& out, const F& expected) {
  double largest = 0.0;
  for (size_t i = 0; i < out.size(); ++i) {
    const double value = expected(i);
    const double error = std::abs(out[i] - value) / std::max(1.0, std::abs(value));
    largest = std::max(largest, std::isnan(error) ? HUGE_VAL : error);
  }
  return largest;
}

// f() with TBB held to `threads` threads.
template <class F>
auto with_threads(size_t threads, const F& f) {
  const tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
  return f();
}

}  // namespace sketchgrad::test
