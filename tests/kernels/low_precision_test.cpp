#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "sketchgrad/kernels/low_precision_rules.h"

namespace sketchgrad::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_CASE("bf16: what has 8 bits of mantissa stays, infinity and NaN too") {
  for (const float x : {0.0f, 1.0f, -1.5f, 3.0e38f, 1.0e-38f, 0.00390625f, kInfinity, -kInfinity}) {
    const float cut = bf16_to_float(float_to_bf16(x, 0));
    for (const uint32_t random : {0u, 1u, 0xFFFFu, 0xFFFFFFFFu}) {
      CHECK(bf16_to_float(float_to_bf16(cut, random)) == cut);
    }
  }
  CHECK(std::isnan(bf16_to_float(float_to_bf16(NAN, 0xFFFFFFFFu))));
}

TEST_CASE("bf16: a value goes to its neighbours, in the mean to itself") {
  std::mt19937 random(1);
  for (const float x : {1.003f, -0.7071f, 1.2345e-20f, 7.7e30f}) {
    double sum = 0.0;
    constexpr int kDraws = 100'000;
    const double step = std::ldexp(1.0, std::ilogb(x) - 7);
    for (int i = 0; i < kDraws; ++i) {
      const auto rounded =
          static_cast<double>(bf16_to_float(float_to_bf16(x, static_cast<uint32_t>(random()))));
      REQUIRE(std::abs(rounded - static_cast<double>(x)) < step);
      sum += rounded;
    }
    // Five standard errors of a coin's mean.
    CHECK(std::abs(sum / kDraws - static_cast<double>(x)) < step * 5 * 0.5 / std::sqrt(kDraws));
  }
}

template <bool kSigned>
void check_codes() {
  using Code = Float8<kSigned>;
  const uint32_t codes = kSigned ? 128 : 256;
  for (uint32_t code = 0; code < codes; ++code) {
    const float value = Code::to_float(static_cast<uint8_t>(code));
    if (code > 0) CHECK(value > Code::to_float(static_cast<uint8_t>(code - 1)));
    for (const uint32_t random : {0u, 0x80000000u, 0xFFFFFFFFu}) {
      CHECK(Code::from_float(value, random) == code);
    }
    if constexpr (kSigned) {
      CHECK(Code::to_float(static_cast<uint8_t>(code | 0x80u)) == -value);
      if (code > 0) CHECK(Code::from_float(-value, 0) == (code | 0x80u));
    }
  }
  CHECK(Code::to_float(0) == 0.0f);
  CHECK(Code::to_float(static_cast<uint8_t>(codes - 1)) == kLargestCode);
  for (const float x : {2.0f, 1e30f, kInfinity, NAN}) {
    CHECK((Code::from_float(x, 0xFFFFFFFFu) & (codes - 1)) == codes - 1);
  }
}

TEST_CASE("8 bits: every code is its value's, codes rise with values") {
  check_codes<false>();
  check_codes<true>();
}

template <bool kSigned>
void check_mean(float x) {
  using Code = Float8<kSigned>;
  std::mt19937 random(2);
  double sum = 0.0;
  constexpr int kDraws = 100'000;
  const double step =
      std::max(std::ldexp(1.0, std::ilogb(x) - 3), static_cast<double>(Code::least()));
  for (int i = 0; i < kDraws; ++i) {
    const auto rounded =
        static_cast<double>(Code::to_float(Code::from_float(x, static_cast<uint32_t>(random()))));
    REQUIRE(std::abs(rounded - static_cast<double>(x)) < step * 1.000001);
    sum += rounded;
  }
  CHECK(std::abs(sum / kDraws - static_cast<double>(x)) < step * 5 * 0.5 / std::sqrt(kDraws));
}

TEST_CASE("8 bits: a value goes to its neighbours, in the mean to itself") {
  for (const float x : {1.7f, 1.003f, 0.31f, 0.001f, 1.3e-5f}) {
    check_mean<false>(x);
    check_mean<true>(x);
    check_mean<true>(-x);
  }
  check_mean<false>(3.3e-10f);  // below the exponents
}

}  // namespace
}  // namespace sketchgrad::kernels
