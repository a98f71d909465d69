#include "sketchgrad/kernels/reduce.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/reduce_impl.h"
#include "sketchgrad/kernels/reduce_lanes.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/support/emulated_warp.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;
using namespace sketchgrad::test;

TEST_CASE("reduce: sums and sums of squares") {
  const Exec exec = cpu_exec();
  for (const int64_t count :
       {int64_t{0}, int64_t{1}, int64_t{7}, int64_t{33}, kBlockElements, 3 * kBlockElements + 5}) {
    CAPTURE(count);
    const std::vector<float> in = random_floats(count, 1);
    double expected_sum = 0, expected_squares = 0, magnitude = 0;
    for (const float x : in) {
      expected_sum += x;
      magnitude += std::abs(x);
      expected_squares += double{x} * x;
    }
    const double tolerance = 1e-12 * magnitude;
    CHECK(std::abs(sum(exec, in.data(), count) - expected_sum) <= tolerance);
    CHECK(std::abs(sum_of_squares(exec, in.data(), count) - expected_squares) <= tolerance);
  }
}

TEST_CASE("reduce: squares neither vanish nor overflow") {
  const std::vector<float> small(100, 1e-30f), large(100, 1e30f);
  CHECK(sum_of_squares(cpu_exec(), small.data(), 100) == doctest::Approx(1e-58).epsilon(1e-6));
  CHECK(sum_of_squares(cpu_exec(), large.data(), 100) == doctest::Approx(1e62).epsilon(1e-6));
}

TEST_CASE("reduce: NaN and infinity reach the sum") {
  std::vector<float> in(1000, 1.0f);
  in[777] = INFINITY;
  CHECK(std::isinf(sum(cpu_exec(), in.data(), 1000)));
  in[3] = NAN;
  CHECK(std::isnan(sum(cpu_exec(), in.data(), 1000)));
  CHECK(std::isnan(sum_of_squares(cpu_exec(), in.data(), 1000)));
}

TEST_CASE("reduce: column sums of strided matrices") {
  const Exec exec = cpu_exec();
  for (const int64_t rows : {0, 1, 255, 1000}) {
    for (const int64_t cols : {1, 7, 33, 2500}) {
      CAPTURE(rows);
      CAPTURE(cols);
      const int64_t stride = cols + 3;
      const std::vector<float> in = random_floats(rows * stride, 2);
      const ConstMatrix matrix{in.data(), rows, cols, stride};
      const std::vector<float> before = random_floats(cols, 3);
      std::vector<float> columns = before;
      add_column_sums(exec, matrix, columns.data());
      CHECK(largest_error(columns, [&](size_t c) {
              double total = before[c];
              for (int64_t r = 0; r < rows; ++r) total += matrix(r, static_cast<int64_t>(c));
              return total;
            }) < 3e-7);
    }
  }
}

TEST_CASE("reduce: the serial policy and any number of threads give the same bits") {
  const Exec exec = cpu_exec();
  const int64_t rows = 5000, cols = 37, count = rows * cols;
  const std::vector<float> in = random_floats(count, 4);
  const ConstMatrix matrix = contiguous(in.data(), rows, cols);
  const auto parallel = [&] {
    std::vector<float> out(static_cast<size_t>(cols));
    add_column_sums(exec, matrix, out.data());
    return out;
  };
  std::vector<float> serial(static_cast<size_t>(cols));
  impl::add_column_sums(SerialPolicy{}, exec, matrix, serial.data());
  CHECK(same_bits(serial, with_threads(1, parallel)));
  CHECK(same_bits(serial, with_threads(2, parallel)));

  const auto total = [&] { return sum_of_squares(exec, in.data(), count); };
  const double expected = impl::reduce_array<Square>(SerialPolicy{}, exec, in.data(), count);
  CHECK(with_threads(1, total) == expected);
  CHECK(with_threads(2, total) == expected);
}

TEST_CASE("reduce: results that stay where the numbers are") {
  const Exec exec = cpu_exec();
  const std::vector<float> in = random_floats(kBlockElements + 33, 5);
  const auto count = static_cast<int64_t>(in.size());
  float scaled = 0.0f;
  scaled_sum(exec, in.data(), count, 0.25, &scaled);
  CHECK(scaled == static_cast<float>(0.25 * sum(exec, in.data(), count)));
  double total = 3.0;
  add_sum_of_squares(exec, in.data(), count, &total);
  CHECK(total == 3.0 + sum_of_squares(exec, in.data(), count));
}

TEST_CASE("reduce: by lanes, as on a GPU") {
  const Exec exec = cpu_exec();
  for (const int64_t count :
       {int64_t{0}, int64_t{1}, int64_t{33}, kLaneBlock, 3 * kLaneBlock + 7}) {
    const std::vector<float> in = random_floats(count, 6);
    float scaled = -1.0f;
    double squares = 2.0;
    for (const uint32_t order : {1u, 2u}) {
      const test::EmulatedPolicy policy{{}, order};
      reduce_by_lanes(policy, exec, count, MapElement<Value>{in.data()}, Plus{}, 0.0,
                      StoreScaled{0.5, &scaled});
      CHECK(scaled == doctest::Approx(0.5 * sum(exec, in.data(), count)));
      squares = 2.0;
      reduce_by_lanes(policy, exec, count, MapElement<Square>{in.data()}, Plus{}, 0.0,
                      AddResult{&squares});
      CHECK(squares == doctest::Approx(2.0 + sum_of_squares(exec, in.data(), count)));
    }
  }
}

TEST_CASE("reduce: column sums by lanes, as on a GPU") {
  for (const int64_t rows : {int64_t{0}, int64_t{1}, kLaneRows, 2 * kLaneRows + 5}) {
    for (const int64_t cols : {1, 7, 33}) {
      const std::vector<float> in = random_floats(rows * (cols + 2), 7);
      const ConstMatrix matrix{in.data(), rows, cols, cols + 2};
      std::vector<float> out(static_cast<size_t>(cols), 1.0f), expected = out;
      add_column_sums(cpu_exec(), matrix, expected.data());
      add_column_sums_by_lanes(test::EmulatedPolicy{}, cpu_exec(), matrix, out.data());
      CHECK(largest_error(out, [&](size_t i) { return expected[i]; }) < 1e-6);
    }
  }
}

TEST_CASE("reduce: what cannot be right is refused") {
  const Exec exec = cpu_exec();
  float value[4] = {};
  CHECK_THROWS_WITH_AS(sum(exec, value, -3), "[sum] count is -3, it must not be negative",
                       InvalidArgument);
  CHECK_THROWS_AS(sum_of_squares(exec, nullptr, 3), InvalidArgument);
  CHECK_THROWS_AS(add_column_sums(exec, {value, 2, 2, 2}, nullptr), InvalidArgument);
}
