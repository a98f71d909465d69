#include "sketchgrad/kernels/math_rules.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

using namespace sketchgrad::kernels;

namespace {

constexpr float kSmallestNormal = std::numeric_limits<float>::min();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Accuracy {
  double worst_ulp = 0;       // where the exact result is a normal float
  double worst_below = 0;     // absolute, where it is smaller
  int64_t wrong_special = 0;  // NaN or infinity in the wrong place
};

void compare(float value, double exact, Accuracy& accuracy) {
  const double largest = std::numeric_limits<float>::max();
  if (std::isnan(exact)) {
    accuracy.wrong_special += !std::isnan(value);
  } else if (exact > largest * (1 + 1e-6)) {
    accuracy.wrong_special += value != kInfinity;
  } else if (std::fabs(exact) < kSmallestNormal) {
    accuracy.worst_below = std::fmax(accuracy.worst_below, std::fabs(value - exact));
  } else if (!std::isfinite(value)) {
    accuracy.wrong_special += exact < largest * (1 - 1e-6);
  } else {
    int exponent;
    std::frexp(exact, &exponent);
    const double ulp = std::ldexp(1.0, exponent - 24);
    accuracy.worst_ulp = std::fmax(accuracy.worst_ulp, std::fabs(value - exact) / ulp);
  }
}

// Every `step`-th of all floats, NaNs included, and every float next to the cut-offs.
template <class Function, class Exact>
Accuracy scan(const Function& function, const Exact& exact) {
  Accuracy accuracy;
  constexpr uint64_t kStep = 1009;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += kStep) {
    const float x = float_from_bits(static_cast<uint32_t>(bits));
    compare(function(x), exact(static_cast<double>(x)), accuracy);
  }
  for (const float centre :
       {-103.97f, -88.72283f, -87.33654f, -0.625f, 0.625f, 88.37626f, 88.72283f}) {
    float x = centre;
    for (int i = 0; i < 2000; ++i) x = std::nextafter(x, -kInfinity);
    for (int i = 0; i < 4000; ++i) {
      compare(function(x), exact(static_cast<double>(x)), accuracy);
      x = std::nextafter(x, kInfinity);
    }
  }
  return accuracy;
}

}  // namespace

TEST_CASE("fast_exp is within 1.1 ulp over all floats") {
  const Accuracy accuracy = scan(fast_exp, [](double x) { return std::exp(x); });
  CHECK(accuracy.wrong_special == 0);
  CHECK(accuracy.worst_ulp < 1.1);
  CHECK(accuracy.worst_below < 1.1755e-38);
}

TEST_CASE("fast_sigmoid is within 3 ulp over all floats") {
  const Accuracy accuracy = scan(fast_sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); });
  CHECK(accuracy.wrong_special == 0);
  CHECK(accuracy.worst_ulp < 3.0);
  CHECK(accuracy.worst_below < 3e-39);
}

TEST_CASE("fast_tanh is within 1.5 ulp over all floats") {
  const Accuracy accuracy = scan(fast_tanh, [](double x) { return std::tanh(x); });
  CHECK(accuracy.wrong_special == 0);
  CHECK(accuracy.worst_ulp < 1.5);
  CHECK(accuracy.worst_below < 1e-44);
}

TEST_CASE("softplus is within 4 ulp and its sigmoid within 3 over all floats") {
  const Accuracy softplus =
      scan([](float x) { return softplus_and_sigmoid(x).softplus; },
           [](double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); });
  CHECK(softplus.wrong_special == 0);
  CHECK(softplus.worst_ulp < 4.0);
  CHECK(softplus.worst_below < 1.1755e-38);
  const Accuracy sigmoid = scan([](float x) { return softplus_and_sigmoid(x).sigmoid; },
                                [](double x) { return 1 / (1 + std::exp(-x)); });
  CHECK(sigmoid.wrong_special == 0);
  CHECK(sigmoid.worst_ulp < 3.0);
  CHECK(sigmoid.worst_below < 1.1755e-38);
}

TEST_CASE("transcendental functions at special values") {
  CHECK(fast_exp(0.0f) == 1.0f);
  CHECK(fast_exp(-0.0f) == 1.0f);
  CHECK(fast_exp(-kInfinity) == 0.0f);
  CHECK(fast_exp(kInfinity) == kInfinity);
  CHECK(fast_exp(-1e30f) == 0.0f);
  CHECK(fast_exp(1e30f) == kInfinity);
  // Payload bits must not leak into the exponent.
  for (const uint32_t bits : {0x7FC00000u, 0x7FC00001u, 0x7FFFFFFFu, 0xFFC00001u, 0xFFFFFFFFu}) {
    CHECK(std::isnan(fast_exp(float_from_bits(bits))));
    CHECK(std::isnan(fast_sigmoid(float_from_bits(bits))));
    CHECK(std::isnan(fast_tanh(float_from_bits(bits))));
  }
  CHECK(fast_sigmoid(0.0f) == 0.5f);
  CHECK(fast_sigmoid(-kInfinity) == 0.0f);
  CHECK(fast_sigmoid(kInfinity) == 1.0f);
  CHECK(fast_tanh(0.0f) == 0.0f);
  CHECK(fast_tanh(-kInfinity) == -1.0f);
  CHECK(fast_tanh(kInfinity) == 1.0f);
}

TEST_CASE("math rules: the logarithm, over every 1000th positive normal float") {
  double worst = 0;
  for (uint32_t bits = 0x00800000u; bits < 0x7f800000u; bits += 1000) {
    const float x = float_from_bits(bits);
    const double exact = std::log(double{x});
    worst = std::max(worst, std::abs(fast_log(x) - exact) / std::max(1.0, std::abs(exact)));
  }
  CHECK(worst < 2e-7);
  CHECK(fast_log(1.0f) == 0.0f);
}
