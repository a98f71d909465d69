#include "sketchgrad/kernels/random.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/random_impl.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;
using namespace sketchgrad::test;

namespace {

constexpr int64_t kSizes[] = {0, 1, 3, 4, 5, 33, 4 * kBlockElements + 7};
constexpr int64_t kSample = 1'000'003;
// Statistics below are refused beyond a significance of 1e-6 (two-sided). The seeds are fixed, so a
// failure is a defect, not bad luck.
constexpr double kSigmas = 4.892;      // of a normal distribution
constexpr double kKolmogorov = 2.694;  // sqrt(ln(2 / 1e-6) / 2), of sqrt(n) times the distance

std::vector<float> uniform(PhiloxKey key, int64_t count, float low = 0.0f, float high = 1.0f) {
  std::vector<float> out(static_cast<size_t>(count));
  fill_uniform(cpu_exec(), key, low, high, out.data(), count);
  return out;
}

std::vector<float> dropped(PhiloxKey key, float probability, const std::vector<float>& in) {
  std::vector<float> out(in.size());
  dropout(cpu_exec(), key, probability, in.data(), out.data(), static_cast<int64_t>(in.size()));
  return out;
}

// sqrt(n) times the Kolmogorov-Smirnov distance between the sample and a distribution function.
template <class F>
double kolmogorov_smirnov(std::vector<float> sample, const F& distribution) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double distance = 0;
  for (size_t i = 0; i < sample.size(); ++i) {
    const double p = distribution(sample[i]);
    const auto rank = static_cast<double>(i);
    distance = std::max({distance, p - rank / n, (rank + 1) / n - p});
  }
  return distance * std::sqrt(n);
}

// Correlation times sqrt(n): a standard normal variable where the two are independent.
double scaled_correlation(const std::vector<float>& a, const std::vector<float>& b) {
  const auto n = static_cast<double>(std::min(a.size(), b.size()));
  double sum_a = 0, sum_b = 0, aa = 0, bb = 0, ab = 0;
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
    const double x = a[i], y = b[i];
    sum_a += x;
    sum_b += y;
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  return (ab - sum_a * sum_b / n) / std::sqrt((aa - sum_a * sum_a / n) * (bb - sum_b * sum_b / n)) *
         std::sqrt(n);
}

}  // namespace

TEST_CASE("philox: the known answers of Random123") {
  const auto words = [](uint64_t seed, uint64_t high, uint64_t low) {
    const Philox4 r = philox(seed, high, low);
    return std::vector<uint32_t>(r.v, r.v + 4);
  };
  CHECK(words(0, 0, 0) ==
        std::vector<uint32_t>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(words(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}) ==
        std::vector<uint32_t>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  CHECK(words(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u) ==
        std::vector<uint32_t>{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("random: an element depends on the key and its index alone") {
  const PhiloxKey key{0x123456789abcdefu, 42};
  const std::vector<float> longest = uniform(key, kSizes[std::size(kSizes) - 1]);
  for (const int64_t count : kSizes) {
    CAPTURE(count);
    const std::vector<float> out = uniform(key, count);
    CHECK(std::equal(out.begin(), out.end(), longest.begin()));
  }
  for (size_t i = 0; i < 1000; ++i) {
    REQUIRE(longest[i] == uniform_from_bits(philox_bits(key, i)));
  }
}

TEST_CASE("random: other seeds and offsets give independent draws") {
  const std::vector<float> first = uniform({1, 1}, kSample);
  CHECK(std::abs(scaled_correlation(first, uniform({1, 2}, kSample))) < kSigmas);
  CHECK(std::abs(scaled_correlation(first, uniform({2, 1}, kSample))) < kSigmas);
  for (const int64_t lag : {1, 2, 3, 4, 64}) {
    CAPTURE(lag);
    const std::vector<float> later(first.begin() + lag, first.end());
    CHECK(std::abs(scaled_correlation(first, later)) < kSigmas);
  }
}

TEST_CASE("random: uniform follows its distribution") {
  const std::vector<float> unit = uniform({7, 0}, kSample);
  CHECK(kolmogorov_smirnov(unit, [](double x) { return x; }) < kKolmogorov);
  CHECK(*std::min_element(unit.begin(), unit.end()) >= 0.0f);
  CHECK(*std::max_element(unit.begin(), unit.end()) < 1.0f);
  const std::vector<float> shifted = uniform({7, 1}, kSample, -3.0f, 5.0f);
  CHECK(kolmogorov_smirnov(shifted, [](double x) { return (x + 3) / 8; }) < kKolmogorov);
}

TEST_CASE("random: uniform never reaches its upper end") {
  const float high = std::nextafter(1.0f, 2.0f);
  const std::vector<float> out = uniform({8, 0}, 1000, 1.0f, high);
  CHECK(out == std::vector<float>(1000, 1.0f));
  const UniformRule rule{1.0f, 1.0f, std::nextafter(2.0f, 1.0f)};
  CHECK(rule(Philox4{{0xFFFFFFFFu, 0, 0, 0}}, 0, 0) < 2.0f);
}

TEST_CASE("random: dropout keeps, scales and repeats") {
  const std::vector<float> in = random_floats(kSample, 10, 1.0f, 2.0f);
  for (const float probability : {0.0f, 0.1f, 0.5f, 0.9f}) {
    CAPTURE(probability);
    const PhiloxKey key{11, 5};
    const std::vector<float> out = dropped(key, probability, in);
    double kept = 0;
    bool right = true;
    for (size_t i = 0; i < in.size(); ++i) {
      if (out[i] == 0.0f) continue;
      kept += 1;
      right = right && std::abs(out[i] - in[i] / (1 - probability)) <= 3e-7f * out[i];
    }
    CHECK(right);
    const double n = kSample, p = probability;
    CHECK(std::abs(kept - n * (1 - p)) <= kSigmas * std::sqrt(n * p * (1 - p)));

    const std::vector<float> again = dropped(key, probability, std::vector<float>(in.size(), 1.0f));
    bool same_mask = true;
    for (size_t i = 0; i < in.size(); ++i) same_mask &= (again[i] == 0.0f) == (out[i] == 0.0f);
    CHECK(same_mask);
    std::vector<float> in_place = in;
    dropout(cpu_exec(), key, probability, in_place.data(), in_place.data(), kSample);
    CHECK(same_bits(in_place, out));
  }
}

TEST_CASE("random: dropout takes every word of a block alike") {
  const std::vector<float> ones(kSample, 1.0f);
  const std::vector<float> out = dropped({12, 0}, 0.5f, ones);
  // Keeps per word of a block: chi-square with 4 degrees of freedom, 33.4 at 1e-6.
  double kept[4] = {}, total[4] = {};
  for (size_t i = 0; i < out.size(); ++i) {
    kept[i % 4] += out[i] != 0.0f;
    total[i % 4] += 1;
  }
  double chi_square = 0;
  for (int w = 0; w < 4; ++w) chi_square += std::pow(kept[w] - total[w] / 2, 2) / (total[w] / 4);
  CHECK(chi_square < 33.4);
}

TEST_CASE("random: dropout removes NaN and infinity where it drops") {
  const std::vector<float> in = {INFINITY, NAN, INFINITY, NAN, INFINITY, NAN, INFINITY, NAN};
  const std::vector<float> out = dropped({13, 0}, 0.999f, in);
  CHECK(std::count(out.begin(), out.end(), 0.0f) >= 6);
}

TEST_CASE("random: the serial policy and any number of threads give the same bits") {
  const int64_t count = 9 * kBlockElements + 3;
  const PhiloxKey key{14, 1};
  std::vector<float> serial(static_cast<size_t>(count));
  const UniformRule rule{-1.0f, 2.0f, std::nextafter(1.0f, 0.0f)};
  impl::random_array(SerialPolicy{}, key, rule, serial.data(), count);
  const auto parallel = [&] { return uniform(key, count, -1.0f, 1.0f); };
  CHECK(same_bits(serial, with_threads(1, parallel)));
  CHECK(same_bits(serial, with_threads(2, parallel)));
}

TEST_CASE("random: what cannot be right is refused") {
  const Exec exec = cpu_exec();
  float value[4] = {};
  CHECK_THROWS_WITH_AS(dropout(exec, {}, 1.0f, value, value, 4),
                       "[dropout] probability 1 is outside [0, 1)", InvalidArgument);
  CHECK_THROWS_AS(dropout(exec, {}, -0.1f, value, value, 4), InvalidArgument);
  CHECK_THROWS_AS(dropout(exec, {}, NAN, value, value, 4), InvalidArgument);
  CHECK_THROWS_AS(dropout(exec, {}, 0.5f, nullptr, value, 4), InvalidArgument);
  CHECK_THROWS_WITH_AS(fill_uniform(exec, {}, 1, 1, value, 4),
                       "[fill_uniform] range [1, 1) must be finite and not empty", InvalidArgument);
  CHECK_THROWS_AS(fill_uniform(exec, {}, 0, INFINITY, value, 4), InvalidArgument);
  CHECK_THROWS_AS(fill_uniform(exec, {}, -3e38f, 3e38f, value, 4), InvalidArgument);
}
