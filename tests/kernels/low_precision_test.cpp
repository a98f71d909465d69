#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "sketchgrad/kernels/lanes.h"
#include "sketchgrad/kernels/low_precision_rules.h"

namespace sketchgrad::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_CASE("bf16: what has 8 bits of mantissa stays, infinity and NaN too") {
  for (const float x : {0.0f, 1.0f, -1.5f, 3.0e38f, 1.0e-38f, 0.00390625f, kInfinity, -kInfinity}) {
    const float cut = bf16_to_float<float>(float_to_bf16(x, 0));
    for (const uint32_t random : {0u, 1u, 0xFFFFu, 0xFFFFFFFFu}) {
      CHECK(bf16_to_float<float>(float_to_bf16(cut, random)) == cut);
    }
  }
  CHECK(std::isnan(bf16_to_float<float>(float_to_bf16(NAN, 0xFFFFFFFFu))));
}

TEST_CASE("bf16: a value goes to its neighbours, in the mean to itself") {
  std::mt19937 random(1);
  for (const float x : {1.003f, -0.7071f, 1.2345e-20f, 7.7e30f}) {
    double sum = 0.0;
    constexpr int kDraws = 100'000;
    const double step = std::ldexp(1.0, std::ilogb(x) - 7);
    for (int i = 0; i < kDraws; ++i) {
      const auto rounded = static_cast<double>(
          bf16_to_float<float>(float_to_bf16(x, static_cast<uint32_t>(random()))));
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
    const float value = Code::template to_float<float>(code);
    if (code > 0) CHECK(value > Code::template to_float<float>(code - 1));
    for (const uint32_t random : {0u, 0x80000u, 0xFFFFFFFFu}) {
      CHECK(static_cast<uint8_t>(Code::from_float(value, random)) == code);
    }
    if constexpr (kSigned) {
      CHECK(Code::template to_float<float>(code | 0x80u) == -value);
      if (code > 0) CHECK(static_cast<uint8_t>(Code::from_float(-value, 0u)) == (code | 0x80u));
    }
  }
  CHECK(Code::template to_float<float>(0u) == 0.0f);
  CHECK(Code::template to_float<float>(codes - 1) == Code::kLargest);
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
  const double step = std::ldexp(1.0, std::ilogb(std::abs(x) + Code::kZero) - 3);
  for (int i = 0; i < kDraws; ++i) {
    const uint32_t code = Code::from_float(x, static_cast<uint32_t>(random())) & 0xFFu;
    const auto rounded = static_cast<double>(Code::template to_float<float>(code));
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
  check_mean<false>(3.3e-10f);  // below kZero
}

// Chi-square of the joint distribution of four bits of a word and of another one's. `draw` gives a
// pair from a row and a column.
template <class Draw>
void check_independent(const char* what, const Draw& draw) {
  CAPTURE(std::string(what));
  constexpr int kSide = 512;
  for (const int shift : {0, 4, 8, 12, 16, 20, 24, 28}) {
    CAPTURE(shift);
    std::vector<int> counts(256);
    for (int row = 0; row < kSide; ++row) {
      for (int column = 0; column < kSide; ++column) {
        const auto [a, b] = draw(row, static_cast<uint32_t>(column));
        ++counts[(a >> shift & 15u) * 16 + (b >> shift & 15u)];
      }
    }
    constexpr double kExpected = kSide * kSide / 256.0;
    double chi2 = 0.0;
    for (const int count : counts) chi2 += (count - kExpected) * (count - kExpected) / kExpected;
    // 255 degrees of freedom: 5.5 standard deviations of 22.6.
    CHECK(chi2 > 255 - 5.5 * 22.6);
    CHECK(chi2 < 255 + 5.5 * 22.6);
  }
}

TEST_CASE("the bits of rounding: even, and independent of their neighbours'") {
  const RoundingKey key{0x0123456789ABCDEFu}, other{0xFEDCBA9876543210u}, next{key.word + 1};
  const auto bits = [](const RoundingKey& of, int64_t row, uint32_t column) {
    return of.row(row).bits(column);
  };
  for (const uint32_t apart : {1u, 2u, 16u, 64u, 511u}) {
    check_independent("columns", [&](int64_t row, uint32_t column) {
      return std::pair(bits(key, row, column), bits(key, row, column + apart));
    });
    check_independent("rows", [&](int64_t row, uint32_t column) {
      return std::pair(bits(key, row, column), bits(key, row + apart, column));
    });
  }
  check_independent("steps", [&](int64_t row, uint32_t column) {
    return std::pair(bits(key, row, column), bits(other, row, column));
  });
  check_independent("keys", [&](int64_t row, uint32_t column) {
    return std::pair(bits(key, row, column), bits(next, row, column));
  });
}

// Lanes have the bits of their elements one by one.
template <bool kSigned>
void check_lanes() {
  std::mt19937 random(3);
  std::vector<float> values = {0.0f, -0.0f, 1.0f, -1.875f, 2.0f, 1e-30f, -1e-12f, kInfinity, NAN};
  while (values.size() < 32) {
    const float x = static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f;
    values.push_back(kSigned ? x : std::abs(x));
  }
  const RoundingKey::Row row = RoundingKey{7}.row(3);
  for (size_t first = 0; first < values.size(); first += kLanes) {
    const Lanes lanes = load_lanes(values.data() + first, kLanes);
    const Words bits = row.bits(kLaneNumbers + static_cast<uint32_t>(first));
    const Words codes = Float8<kSigned>::from_float(lanes, bits) & 0xFFu;
    const Words halves = float_to_bf16(lanes, bits);
    const auto values_of = Float8<kSigned>::template to_float<Lanes>(codes);
    const auto values_of_halves = bf16_to_float<Lanes>(halves);
    for (size_t i = 0; i < kLanes; ++i) {
      const float x = values[first + i];
      CAPTURE(x);
      const uint32_t bit = row.bits(static_cast<uint32_t>(first + i));
      const uint32_t code = Float8<kSigned>::from_float(x, bit) & 0xFFu;
      CHECK(bits[i] == bit);
      CHECK(codes[i] == code);
      CHECK(halves[i] == float_to_bf16(x, bit));
      CHECK(values_of[i] == Float8<kSigned>::template to_float<float>(code));
      CHECK(same_bits<uint32_t>(static_cast<float>(values_of_halves[i])) == halves[i] << 16);
    }
  }
}

TEST_CASE("lanes round as their elements do") {
  check_lanes<false>();
  check_lanes<true>();
}

template <class T>
void check_packed(int64_t count) {
  CAPTURE(count);
  std::vector<T> row(kLanes + 2), written(row.size(), T{0xEE});
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<T>(0xFFF0u + i);
  const Words words = load_words(row.data() + 1, count);
  for (int64_t i = 0; i < kLanes; ++i) {
    CHECK(words[i] == (i < count ? uint32_t{row[static_cast<size_t>(i) + 1]} : 0u));
  }
  store_words(words | 0xABCD0000u, written.data() + 1, count);  // upper bits are left out
  for (size_t i = 0; i < written.size(); ++i) {
    const bool inside = i > 0 && static_cast<int64_t>(i) <= count;
    CHECK(written[i] == (inside ? row[i] : T{0xEE}));
  }
}

TEST_CASE("lanes of 8 and of 16 bits are read and written up to their number") {
  for (int64_t count = 0; count <= kLanes; ++count) {
    check_packed<uint8_t>(count);
    check_packed<uint16_t>(count);
  }
}

TEST_CASE("the largest of lanes, wherever it is") {
  for (int64_t i = 0; i < kLanes; ++i) {
    Words words = kLaneNumbers;
    words[i] = 0xFFFFFFF0u;
    CHECK(largest_lane(words) == 0xFFFFFFF0u);
  }
}

TEST_CASE("a block's scale: the largest element has the largest code, NaN stays") {
  for (const bool with_signs : {false, true}) {
    const BlockScale scale = BlockScale::of(3.0f, with_signs);
    const float largest = with_signs ? Float8<true>::kLargest : Float8<false>::kLargest;
    CHECK(scale.scale * largest == doctest::Approx(3.0f).epsilon(1e-6));
    CHECK(3.0f * scale.inverse == doctest::Approx(largest).epsilon(1e-6));
    for (const float small : {0.0f, 1e-39f}) {
      CHECK(BlockScale::of(small, with_signs).scale == 0.0f);
      CHECK(BlockScale::of(small, with_signs).inverse == 0.0f);
    }
    CHECK(std::isnan(BlockScale::of(NAN, with_signs).scale));
  }
  CHECK(magnitude_bits<uint32_t>(-2.0f) == magnitude_bits<uint32_t>(2.0f));
  CHECK(magnitude_bits<uint32_t>(NAN) > magnitude_bits<uint32_t>(-kInfinity));
}

}  // namespace
}  // namespace sketchgrad::kernels
