#include "sketchgrad/kernels/factors.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/factors_impl.h"
#include "sketchgrad/tests/support/test_exec.h"

namespace sketchgrad::kernels {
namespace {

using test::cpu_exec;

struct Step {
  int64_t table_rows;
  std::vector<int32_t> ids;
  int64_t cols;
  std::vector<float> gradient;
  std::vector<float> row_cover;  // of table rows
  std::vector<float> column_cover;

  ConstMatrix matrix() const {
    return contiguous(gradient.data(), static_cast<int64_t>(ids.size()), cols);
  }
  double at(size_t r, int64_t c) const {
    return static_cast<double>(gradient[r * static_cast<size_t>(cols) + static_cast<size_t>(c)]);
  }
};

Step random_step(int64_t rows, int64_t cols) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  Step step{2 * rows, {}, cols, {}, {}, {}};
  for (int64_t r = 0; r < rows; ++r) step.ids.push_back(static_cast<int32_t>(2 * r + 1));
  for (int64_t i = 0; i < rows * cols; ++i) step.gradient.push_back(normal(random));
  for (int64_t r = 0; r < 2 * rows; ++r) step.row_cover.push_back(std::abs(normal(random)));
  for (int64_t c = 0; c < cols; ++c) step.column_cover.push_back(std::abs(normal(random)));
  return step;
}

const std::vector<std::pair<int64_t, int64_t>> kShapes{{0, 5},  {1, 1},    {3, 7},      {5, 33},
                                                       {4, 16}, {700, 40}, {300, 1100}, {2, 20000}};

void check_close(float got, double expected, double largest) {
  CHECK(std::abs(static_cast<double>(got) - expected) <= 1e-6 * largest + 1e-12);
}

TEST_CASE("sums of rows and columns") {
  for (const auto& [rows, cols] : kShapes) {
    CAPTURE(rows);
    CAPTURE(cols);
    const Step step = random_step(rows, cols);
    for (const bool squared : {false, true}) {
      std::vector<float> by_row(static_cast<size_t>(rows));
      std::vector<float> by_column(static_cast<size_t>(cols));
      row_sums(cpu_exec(), step.ids.data(), step.matrix(), squared, by_row.data());
      column_sums(cpu_exec(), step.ids.data(), step.matrix(), squared, by_column.data());
      std::vector<double> column(static_cast<size_t>(cols));
      for (size_t r = 0; r < step.ids.size(); ++r) {
        double row = 0.0;
        for (int64_t c = 0; c < cols; ++c) {
          const double u = squared ? step.at(r, c) * step.at(r, c) : step.at(r, c);
          row += u;
          column[static_cast<size_t>(c)] += u;
        }
        check_close(by_row[r], row, static_cast<double>(cols));
      }
      for (size_t c = 0; c < column.size(); ++c) {
        check_close(by_column[c], column[c], static_cast<double>(rows));
      }
    }
  }
}

TEST_CASE("products of the inputs with columns, and with entries") {
  for (const auto& [rows, cols] : kShapes) {
    CAPTURE(rows);
    CAPTURE(cols);
    const Step step = random_step(rows, cols);
    const float* const entries = step.row_cover.data();
    const float* const columns = step.column_cover.data();
    for (const bool squared : {false, true}) {
      std::vector<float> by_row(static_cast<size_t>(rows));
      std::vector<float> by_column(static_cast<size_t>(cols));
      row_products(cpu_exec(), step.ids.data(), step.matrix(), squared, columns, by_row.data());
      column_products(cpu_exec(), step.ids.data(), step.matrix(), squared, entries,
                      by_column.data());
      std::vector<double> column(static_cast<size_t>(cols));
      for (size_t r = 0; r < step.ids.size(); ++r) {
        double row = 0.0;
        for (int64_t c = 0; c < cols; ++c) {
          const double u = squared ? step.at(r, c) * step.at(r, c) : step.at(r, c);
          row += u * static_cast<double>(columns[c]);
          column[static_cast<size_t>(c)] += u * static_cast<double>(entries[r]);
        }
        check_close(by_row[r], row, static_cast<double>(cols));
      }
      for (size_t c = 0; c < column.size(); ++c) {
        check_close(by_column[c], column[c], static_cast<double>(rows));
      }
    }
    double product = -1.0, expected = 0.0;
    sum_of_products(cpu_exec(), step.ids.data(), rows, entries, entries, &product);
    for (int64_t r = 0; r < rows; ++r) {
      expected += static_cast<double>(entries[step.ids[static_cast<size_t>(r)]]) *
                  static_cast<double>(entries[r]);
    }
    CHECK(product == doctest::Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("vectors over their length, and the columns of a power iteration") {
  const double squares = 9.0, more = 16.0, none = 0.0, factor = -0.5;
  std::vector<float> x{10, -5}, otherwise{1, 2};
  over_length(cpu_exec(), {&squares, &more}, 2, x.data());
  CHECK(x == std::vector<float>{2, -1});
  over_length(cpu_exec(), {&none}, 2, x.data());
  CHECK(x == std::vector<float>{2, -1});
  multiply_by(cpu_exec(), &factor, 2, x.data());
  CHECK(x == std::vector<float>{-1, 0.5f});
  // (9 + 0.5 * 16) / 5 * 1 + 0.5 * x
  combine_columns(cpu_exec(), {&squares, &more, {&squares, &more}}, 0.5f, otherwise.data(), 2,
                  x.data());
  CHECK(x[0] == doctest::Approx(3.4 - 0.5));
  CHECK(x[1] == doctest::Approx(6.8 + 0.25));
  combine_columns(cpu_exec(), {&none, &none, {&none}}, 2.0f, otherwise.data(), 2, x.data());
  CHECK(x[0] == doctest::Approx(5.8));
  over_length(cpu_exec(), {&none, &none}, 2, x.data(), otherwise.data());
  CHECK(x == otherwise);
}

TEST_CASE("maxima of rows and columns over covers") {
  for (const auto& [rows, cols] : kShapes) {
    const Step step = random_step(rows, cols);
    for (const float keep : {0.0f, 0.9f}) {
      const Covers covers{step.row_cover.data(), step.column_cover.data(), keep, 0.5f};
      std::vector<float> by_row(static_cast<size_t>(rows));
      std::vector<float> by_column(static_cast<size_t>(cols));
      row_maxima(cpu_exec(), step.ids.data(), step.matrix(), covers, by_row.data());
      column_maxima(cpu_exec(), step.ids.data(), step.matrix(), covers, by_column.data());
      std::vector<double> column(static_cast<size_t>(cols));
      for (size_t r = 0; r < step.ids.size(); ++r) {
        double row = 0.0;
        for (int64_t c = 0; c < cols; ++c) {
          const auto cover =
              static_cast<double>(std::min(step.row_cover[static_cast<size_t>(step.ids[r])],
                                           step.column_cover[static_cast<size_t>(c)]));
          const double value =
              static_cast<double>(keep) * cover + 0.5 * step.at(r, c) * step.at(r, c);
          row = std::max(row, value);
          column[static_cast<size_t>(c)] = std::max(column[static_cast<size_t>(c)], value);
        }
        CHECK(static_cast<double>(by_row[r]) == doctest::Approx(row).epsilon(1e-6));
      }
      for (size_t c = 0; c < column.size(); ++c) {
        CHECK(static_cast<double>(by_column[c]) == doctest::Approx(column[c]).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("entries without a row count for nothing, NaN stays") {
  const std::vector<int32_t> ids{1, -1, 0};
  const std::vector<float> gradient{1, 2, NAN, NAN, 3, 4};
  const ConstMatrix g = contiguous(gradient.data(), 3, 2);
  std::vector<float> rows(3), columns(2);
  row_sums(cpu_exec(), ids.data(), g, false, rows.data());
  column_sums(cpu_exec(), ids.data(), g, true, columns.data());
  CHECK(rows == std::vector<float>{3, 0, 7});
  CHECK(columns == std::vector<float>{10, 20});
  const std::vector<float> x{10, 20};
  float total = 0;
  sum_of_entries(cpu_exec(), ids.data(), 3, x.data(), &total);
  CHECK(total == 30);
  column_products(cpu_exec(), ids.data(), g, false, rows.data(), columns.data());
  CHECK(columns == std::vector<float>{3 + 3 * 7, 2 * 3 + 4 * 7});
  row_products(cpu_exec(), ids.data(), g, false, x.data(), rows.data());
  CHECK(rows == std::vector<float>{50, 0, 110});
  double product = 0;
  sum_of_products(cpu_exec(), ids.data(), 3, x.data(), rows.data(), &product);
  CHECK(product == 20 * 50 + 10 * 110);
  add_to_entries(cpu_exec(), ids.data(), 3, x.data(), 2.0f, std::vector<float>{1, NAN, 3}.data(),
                 rows.data());
  CHECK(rows == std::vector<float>{22, 0, 16});
  rows = {3, 0, 7};
  std::vector<float> state{1, 1};
  advance_entries(cpu_exec(), ids.data(), 3, {0.5f, 2.0f}, rows.data(), state.data());
  CHECK(state == std::vector<float>{14.5f, 6.5f});

  const std::vector<float> covers{1, 1};
  row_maxima(cpu_exec(), nullptr, g, {gradient.data(), covers.data(), 0.0f, 1.0f}, rows.data());
  CHECK(rows[0] == 4);
  CHECK(std::isnan(rows[1]));
  CHECK(rows[2] == 16);
  raise_entries(cpu_exec(), gradient.data() + 2, 1, state.data());
  CHECK(std::isnan(state[0]));
}

TEST_CASE("columns whose sum decays in part, and multiples of the mean") {
  std::vector<float> x{1, 3};
  const std::vector<float> values{10, 20};
  const float part = 0.5f, whole = 4.0f, none = 0.0f;
  advance_columns(cpu_exec(), {0.5f, 2.0f, &part, &whole}, 0.1f, values.data(), 2, x.data());
  CHECK(x[0] == doctest::Approx(0.875 + 1));
  CHECK(x[1] == doctest::Approx(2.625 + 2));
  advance_columns(cpu_exec(), {0.5f, 2.0f, &none, &none}, 0.0f, values.data(), 2, x.data());
  CHECK(x[0] == doctest::Approx(1.875 / 2));
  std::vector<float> shape(2);
  const float total = 8.0f;
  const std::vector<float> columns{2, 6};
  over_mean(cpu_exec(), columns.data(), &total, 2, shape.data());
  CHECK(shape == std::vector<float>{0.5f, 1.5f});
  over_mean(cpu_exec(), columns.data(), &none, 2, shape.data());
  CHECK(shape == std::vector<float>{1, 1});
}

TEST_CASE("covers of an axis") {
  // Columns [2, 3, 2].
  const ColumnAxis axis{2, 3, 2};
  const std::vector<float> cover{5, 1, 9};
  std::vector<float> out(12, 4.0f);
  spread_minimum(cpu_exec(), axis, cover.data(), out.data());
  CHECK(out == std::vector<float>{4, 4, 1, 1, 4, 4, 4, 4, 1, 1, 4, 4});
  std::vector<float> maxima(3);
  const std::vector<float> columns{1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1};
  axis_maxima(cpu_exec(), axis, columns.data(), maxima.data());
  CHECK(maxima == std::vector<float>{8, 4, 6});
}

TEST_CASE("factors: the serial policy gives the same bits") {
  const Step step = random_step(700, 1100);
  const FactorElement element = InputElement{step.ids.data(), step.matrix(), true};
  std::vector<float> rows(700), columns(1100), other_rows(700), other_columns(1100);
  row_sums(cpu_exec(), step.ids.data(), step.matrix(), true, rows.data());
  column_sums(cpu_exec(), step.ids.data(), step.matrix(), true, columns.data());
  impl::reduce_rows(SerialPolicy{}, element, other_rows.data());
  impl::reduce_columns(SerialPolicy{}, cpu_exec(), element, other_columns.data());
  CHECK(rows == other_rows);
  CHECK(columns == other_columns);
}

TEST_CASE("factors: shapes that cannot be are refused") {
  const std::vector<float> gradient(6);
  const ConstMatrix g = contiguous(gradient.data(), 2, 3);
  CHECK_THROWS_AS(row_sums(cpu_exec(), nullptr, g, true, nullptr), InvalidArgument);
  CHECK_THROWS_AS(column_sums(cpu_exec(), nullptr, g, true, nullptr), InvalidArgument);
  CHECK_THROWS_AS(row_products(cpu_exec(), nullptr, g, true, nullptr, nullptr), InvalidArgument);
  CHECK_THROWS_AS(column_products(cpu_exec(), nullptr, g, true, nullptr, nullptr), InvalidArgument);
  CHECK_THROWS_AS(over_length(cpu_exec(), {nullptr}, 0, nullptr), InvalidArgument);
  CHECK_THROWS_AS(row_maxima(cpu_exec(), nullptr, g, {}, nullptr), InvalidArgument);
  CHECK_THROWS_AS(sum_of_entries(cpu_exec(), nullptr, -1, nullptr, nullptr), InvalidArgument);
  CHECK_THROWS_AS(axis_maxima(cpu_exec(), {-1, 1, 1}, gradient.data(), nullptr), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::kernels
