#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "sketchgrad/apps/xc/feature_dropout.h"

namespace sketchgrad::apps::xc {
namespace {

const Purpose kData{Category::data, "test"};

SparseRows sparse(const std::vector<int32_t>& begin, const std::vector<int32_t>& columns,
                  const std::vector<float>& values) {
  const auto entries = static_cast<int64_t>(columns.size());
  return {Tensor::from(begin, {static_cast<int64_t>(begin.size())}, kData),
          Tensor::from(columns, {entries}, kData), Tensor::from(values, {entries}, kData)};
}

// 1000 rows of r % 8 entries, the e-th with the column e.
SparseRows many_rows() {
  std::vector<int32_t> begin{0}, columns;
  std::vector<float> values;
  for (int32_t r = 0; r < 1000; ++r) {
    for (int32_t i = 0; i < r % 8; ++i) {
      columns.push_back(static_cast<int32_t>(columns.size()));
      values.push_back(0.1f * static_cast<float>(i + 1));
    }
    begin.push_back(static_cast<int32_t>(columns.size()));
  }
  return sparse(begin, columns, values);
}

double length(const SparseRows& rows, size_t r) {
  const std::vector<int32_t> begin = rows.begin.to_vector<int32_t>();
  const std::vector<float> values = rows.values.to_vector<float>();
  double sum = 0;
  for (auto e = static_cast<size_t>(begin[r]); e < static_cast<size_t>(begin[r + 1]); ++e) {
    sum += double{values[e]} * double{values[e]};
  }
  return std::sqrt(sum);
}

TEST_CASE("xc feature dropout: rows keep a part of their entries, in order, and their length") {
  const SparseRows before = many_rows();
  SparseRows after = many_rows();
  drop_features(after, 0.3, {5, 6});
  const std::vector<int32_t> begin = after.begin.to_vector<int32_t>();
  const std::vector<int32_t> columns = after.columns.to_vector<int32_t>();
  const std::vector<int32_t> old_begin = before.begin.to_vector<int32_t>();
  REQUIRE(begin.back() == static_cast<int32_t>(columns.size()));
  int64_t of_long_rows = 0, kept_of_long_rows = 0;
  for (size_t r = 0; r < 1000; ++r) {
    CHECK(length(after, r) == doctest::Approx(length(before, r)).epsilon(1e-6));
    // No row loses all it has.
    CHECK((begin[r] < begin[r + 1]) == (old_begin[r] < old_begin[r + 1]));
    for (int32_t e = begin[r]; e < begin[r + 1]; ++e) {
      const int32_t column = columns[static_cast<size_t>(e)];
      CHECK(column >= old_begin[r]);
      CHECK(column < old_begin[r + 1]);
      if (e > begin[r]) CHECK(column > columns[static_cast<size_t>(e) - 1]);
    }
    if (old_begin[r + 1] - old_begin[r] < 6) continue;
    of_long_rows += old_begin[r + 1] - old_begin[r];
    kept_of_long_rows += begin[r + 1] - begin[r];
  }
  // Rows of 6 and 7 entries seldom lose all: 0.7 of about 1600 are kept, within 5 deviations.
  const double expected = 0.7 * static_cast<double>(of_long_rows);
  CHECK(std::abs(static_cast<double>(kept_of_long_rows) - expected) <
        5 * std::sqrt(0.3 * expected));
}

TEST_CASE("xc feature dropout: the draw decides, and none is none") {
  const auto columns_after = [](double probability, kernels::PhiloxKey key) {
    SparseRows rows = many_rows();
    drop_features(rows, probability, key);
    return rows.columns.to_vector<int32_t>();
  };
  CHECK(columns_after(0.5, {1, 2}) == columns_after(0.5, {1, 2}));
  CHECK(columns_after(0.5, {1, 2}) != columns_after(0.5, {1, 3}));
  CHECK(columns_after(0.0, {1, 2}) == many_rows().columns.to_vector<int32_t>());
  SparseRows rows = many_rows();
  CHECK_THROWS_AS(drop_features(rows, 1.0, {}), InvalidArgument);
}

TEST_CASE("xc feature dropout: rows that would lose all keep all, as they are") {
  // With so large a probability nearly every row would.
  SparseRows rows = sparse({0, 1, 1, 3}, {4, 7, 9}, {2.0f, 0.5f, 0.25f});
  drop_features(rows, 0.999999, {1, 2});
  CHECK(rows.begin.to_vector<int32_t>() == std::vector<int32_t>{0, 1, 1, 3});
  CHECK(rows.columns.to_vector<int32_t>() == std::vector<int32_t>{4, 7, 9});
  CHECK(rows.values.to_vector<float>() == std::vector<float>{2.0f, 0.5f, 0.25f});
}

}  // namespace
}  // namespace sketchgrad::apps::xc
