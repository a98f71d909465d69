#include "sketchgrad/kernels/lsh.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/lsh_impl.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;

namespace {}  // namespace

TEST_CASE("lsh: the angle of two vectors by its cosine") {
  for (int i = -1000; i <= 1000; ++i) {
    const float cosine = static_cast<float>(i) / 1000.0f;
    const double expected = 1.0 - std::acos(double{cosine}) / std::numbers::pi;
    CHECK(std::abs(simhash_agreement(cosine) - expected) < 2e-7);
  }
  CHECK(simhash_agreement(1.0001f) == 1.0f);
  CHECK(simhash_agreement(-1.0001f) == 0.0f);
}

TEST_CASE("lsh: SimHash codes agree as often as stated") {
  constexpr int64_t kDim = 20;
  constexpr int kTables = 20000, kBits = 3;
  const std::vector<float> directions = test::random_normals(kDim * kTables * kBits, 1);
  std::vector<float> a = test::random_normals(kDim, 2), b = test::random_normals(kDim, 3);
  double dot = 0, square_a = 0, square_b = 0;
  for (size_t i = 0; i < kDim; ++i) {
    b[i] = 0.7f * a[i] + 0.5f * b[i];
    dot += double{a[i]} * b[i];
    square_a += double{a[i]} * a[i];
    square_b += double{b[i]} * b[i];
  }
  std::vector<float> projections(2 * kTables * kBits);
  for (size_t row = 0; row < 2; ++row) {
    for (size_t p = 0; p < kTables * kBits; ++p) {
      float sum = 0;
      for (size_t i = 0; i < kDim; ++i) sum += (row == 0 ? a : b)[i] * directions[p * kDim + i];
      projections[row * kTables * kBits + p] = sum;
    }
  }
  std::vector<int32_t> codes(2 * kTables);
  simhash_codes(test::cpu_exec(), contiguous<const float>(projections.data(), 2, kTables * kBits),
                kTables, kBits, codes.data());
  int same = 0;
  for (size_t l = 0; l < kTables; ++l) same += codes[l] == codes[kTables + l];
  const double norms = std::sqrt(square_a * square_b);
  const double expected =
      simhash_collision(static_cast<float>(dot), static_cast<float>(norms), 1, kBits);
  CHECK(expected > 0.2);
  CHECK(expected < 0.9);
  const double error = std::sqrt(expected * (1 - expected) / kTables);
  CHECK(std::abs(static_cast<double>(same) / kTables - expected) < 4 * error);
  // In several tables at once.
  CHECK(simhash_collision(static_cast<float>(dot), static_cast<float>(norms), 4, kBits) ==
        doctest::Approx(1 - std::pow(1 - expected, 4)).epsilon(1e-4));
}

TEST_CASE("lsh: winner-take-all codes by hand, ties and zeros") {
  // Two tables of two bins of two columns.
  const std::vector<int32_t> columns = {0, 1, 2, 3, 1, 3, 3, 0};
  const WtaShape shape{2, 2, 1};
  const std::vector<float> rows = {1, 2, 5,  3,   //
                                   4, 4, -1, -2,  // the first of equals
                                   0, 0, 0,  7,   // a bin of zeros takes another's hash
                                   0, 0, 0,  0};
  std::vector<int32_t> codes(8);
  wta_codes(test::cpu_exec(), contiguous<const float>(rows.data(), 4, 4), shape, columns.data(),
            codes.data());
  CHECK(codes[0] == 0b01);  // 2 of (1, 2); 5 of (5, 3)
  CHECK(codes[1] == 0b01);  // 3 of (2, 3); 3 of (3, 1)
  CHECK(codes[2] == 0b00);
  CHECK(codes[3] == 0b10);      // 4 of (4, -2); 4 of (-2, 4)
  CHECK(codes[5] == 0b01);      // 7 of (0, 7); 7 of (7, 0)
  CHECK((codes[4] >> 1) == 1);  // 7 of (0, 7)
  CHECK(codes[6] == 0);
  CHECK(codes[7] == 0);
  const WtaCode rule{contiguous<const float>(rows.data(), 4, 4), shape, columns.data(), nullptr};
  bool borrowed = false;
  for (int64_t bin = 0; bin < 4; ++bin)
    borrowed |= (codes[4] & 1) == rule.winner(rows.data() + 8, bin);
  CHECK(borrowed);
}

TEST_CASE("lsh: norms, and logits weighed by collisions, against plain loops") {
  constexpr int kTables = 2, kBits = 6;
  for (const int64_t tokens : {0, 1, 33}) {
    for (const int64_t cols : {1, 7, 600}) {
      CAPTURE(tokens);
      CAPTURE(cols);
      const std::vector<float> dots = test::random_normals(static_cast<size_t>(tokens * cols), 4);
      std::vector<float> token_norms(static_cast<size_t>(tokens), 2.0f),
          norms(static_cast<size_t>(cols), 1.5f);
      std::vector<int32_t> token_codes(static_cast<size_t>(tokens * kTables)),
          row_codes(static_cast<size_t>(cols * kTables));
      std::mt19937 random(6);
      for (int32_t& code : token_codes) code = static_cast<int32_t>(random() % 3);
      for (int32_t& code : row_codes) code = static_cast<int32_t>(random() % 3);
      std::vector<float> logits = dots;
      weigh_collisions(test::cpu_exec(), contiguous(logits.data(), tokens, cols),
                       {kTables, kBits, token_codes.data(), row_codes.data(), token_norms.data(),
                        norms.data(), std::log(0.5f)});
      std::vector<float> serial = dots;
      impl::weigh_collisions(SerialPolicy{}, contiguous(serial.data(), tokens, cols),
                             {kTables, kBits, token_codes.data(), row_codes.data(),
                              token_norms.data(), norms.data(), std::log(0.5f)});
      int64_t unlike = 0;
      for (size_t i = 0; i < logits.size(); ++i) {
        // But for products and sums that a compiler fuses in one of them.
        const bool close = std::abs(logits[i] - serial[i]) <= 1e-5f * (1 + std::abs(serial[i]));
        unlike += logits[i] != serial[i] && !close;
      }
      CHECK(unlike == 0);
      int64_t wrong = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t c = 0; c < cols; ++c) {
          const auto at = static_cast<size_t>(t * cols + c);
          bool same = false;
          for (int64_t l = 0; l < kTables; ++l) {
            same |= token_codes[static_cast<size_t>(t * kTables + l)] ==
                    row_codes[static_cast<size_t>(l * cols + c)];
          }
          if (!same) {
            wrong += logits[at] != -INFINITY;
            continue;
          }
          const double cosine = std::clamp(double{dots[at]} / 3.0, -1.0, 1.0);
          const double p = 1.0 - std::acos(cosine) / std::numbers::pi;
          const double collision = 1.0 - std::pow(1.0 - std::pow(p, kBits), kTables);
          const double expected = dots[at] - std::log(std::max(collision, 1e-6) * 0.5);
          wrong += !(std::abs(logits[at] - expected) < 5e-3);
        }
      }
      CHECK(wrong == 0);
      std::vector<float> lengths(static_cast<size_t>(tokens));
      row_norms(test::cpu_exec(), contiguous<const float>(dots.data(), tokens, cols),
                lengths.data());
      for (int64_t t = 0; t < tokens; ++t) {
        double square = 0;
        for (int64_t c = 0; c < cols; ++c) {
          square += std::pow(double{dots[static_cast<size_t>(t * cols + c)]}, 2);
        }
        CHECK(lengths[static_cast<size_t>(t)] == doctest::Approx(std::sqrt(square)));
      }
    }
  }
}

TEST_CASE("lsh: shapes that do not fit are refused") {
  std::vector<float> values(12);
  std::vector<int32_t> codes(12), columns(12);
  const ConstMatrix matrix = contiguous<const float>(values.data(), 2, 6);
  CHECK_THROWS_AS(simhash_codes(test::cpu_exec(), matrix, 2, 2, codes.data()), InvalidArgument);
  CHECK_THROWS_AS(simhash_codes(test::cpu_exec(), matrix, 0, 2, codes.data()), InvalidArgument);
  CHECK_THROWS_AS(simhash_codes(test::cpu_exec(), matrix, 2, 3, nullptr), InvalidArgument);
  CHECK_THROWS_AS(wta_codes(test::cpu_exec(), matrix, {1, 25, 1}, columns.data(), codes.data()),
                  InvalidArgument);
  CHECK_THROWS_AS(weigh_collisions(test::cpu_exec(), contiguous(values.data(), 2, 6), {}),
                  InvalidArgument);
}
