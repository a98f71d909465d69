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

std::vector<float> normal(PhiloxKey key, int64_t count, float mean = 0.0f, float stddev = 1.0f) {
  std::vector<float> out(static_cast<size_t>(count));
  fill_normal(cpu_exec(), key, mean, stddev, out.data(), count);
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

double normal_distribution(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

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
  const std::vector<float> normals = normal(key, 1000);
  for (const int64_t count : {1, 2, 3, 5, 998}) {
    const std::vector<float> out = normal(key, count);
    CHECK(std::equal(out.begin(), out.end(), normals.begin()));
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
  const std::vector<float> normals = normal({3, 1}, kSample);
  for (const int64_t lag : {1, 2}) {
    CAPTURE(lag);
    const std::vector<float> later(normals.begin() + lag, normals.end());
    CHECK(std::abs(scaled_correlation(normals, later)) < kSigmas);
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

TEST_CASE("random: normal follows its distribution") {
  const std::vector<float> standard = normal({9, 0}, kSample);
  CHECK(kolmogorov_smirnov(standard, normal_distribution) < kKolmogorov);
  // Moments 1 to 4 of a standard normal: 0, 1, 0, 3, with variances 1, 2, 15, 96.
  double moment[4] = {};
  for (const double x : standard) {
    moment[0] += x;
    moment[1] += x * x;
    moment[2] += x * x * x;
    moment[3] += x * x * x * x;
  }
  const double expected[4] = {0, 1, 0, 3}, variance[4] = {1, 2, 15, 96};
  for (int m = 0; m < 4; ++m) {
    CAPTURE(m);
    const double error = moment[m] / kSample - expected[m];
    CHECK(std::abs(error) < kSigmas * std::sqrt(variance[m] / kSample));
  }
  const std::vector<float> moved = normal({9, 1}, kSample, 2.0f, 0.5f);
  CHECK(kolmogorov_smirnov(moved, [](double x) { return normal_distribution((x - 2) / 0.5); }) <
        kKolmogorov);
  CHECK(normal({9, 2}, 100, 2.0f, 0.0f) == std::vector<float>(100, 2.0f));
}

TEST_CASE("random: Box-Muller's functions against double precision") {
  double log_error = 0, angle_error = 0;
  for (int64_t i = 0; i < 200'000; ++i) {
    const float x =
        std::ldexp(1.0f + static_cast<float>(i) / 200'000, static_cast<int>(i % 34) - 33);
    const double exact = std::log(double{x});
    log_error =
        std::max(log_error, std::abs(log_positive(x) - exact) / std::max(1e-3, std::abs(exact)));
    const float turns = static_cast<float>(i) / 200'000;
    const double angle = 2 * M_PI * double{turns};
    const SineCosine result = sine_cosine_of_turns(turns);
    angle_error = std::max({angle_error, std::abs(result.sine - std::sin(angle)),
                            std::abs(result.cosine - std::cos(angle))});
  }
  CHECK(log_error < 3e-7);
  CHECK(angle_error < 2e-7);
}

TEST_CASE("random: the ends of the bit range give finite normals") {
  const NormalRule rule{0.0f, 1.0f};
  for (const uint32_t radius : {0u, 1u, 0xFFFFFFFFu}) {
    for (const uint32_t angle : {0u, 0x40000000u, 0x80000000u, 0xC0000000u, 0xFFFFFFFFu}) {
      const Philox4 block{{radius, angle, radius, angle}};
      for (int word = 0; word < 4; ++word) {
        CHECK(std::abs(rule(block, word, word)) < 6.8f);
      }
    }
  }
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
  impl::random_array(SerialPolicy{}, key, NormalRule{0.0f, 1.0f}, serial.data(), count);
  const auto parallel = [&] { return normal(key, count); };
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
  CHECK_THROWS_AS(fill_normal(exec, {}, 0, -1, value, 4), InvalidArgument);
  CHECK_THROWS_AS(fill_normal(exec, {}, NAN, 1, value, 4), InvalidArgument);
  CHECK_THROWS_AS(fill_normal(exec, {}, 0, 1, value, -4), InvalidArgument);
}
