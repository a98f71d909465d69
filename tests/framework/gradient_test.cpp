#include "sketchgrad/framework/gradient.h"

#include <doctest/doctest.h>

#include <vector>

namespace sketchgrad {
namespace {

const Purpose kTest{Category::gradient, "test"};

using Values = std::vector<float>;

// Dense gradients and row-sparse ones of a [3, 2] table.
Tensor dense(const Values& values) { return Tensor::from(values, {3, 2}, kTest); }
RowSparse rows(const std::vector<int32_t>& ids, const Values& values) {
  const auto count = static_cast<int64_t>(ids.size());
  return {3, Tensor::from(ids, {count}, kTest), Tensor::from(values, {count, 2}, kTest), false};
}

TEST_CASE("no gradient") {
  Gradient gradient;
  CHECK(gradient.kind() == Gradient::Kind::none);
  CHECK(gradient.empty());
  CHECK_FALSE(gradient.values().defined());
  CHECK_THROWS_AS(gradient.dense(), InvalidArgument);
  CHECK_THROWS_AS(gradient.rows(), InvalidArgument);
}

TEST_CASE("dense") {
  Gradient gradient;
  gradient.add(dense({1, 2, 3, 4, 5, 6}));
  CHECK(gradient.kind() == Gradient::Kind::dense);
  gradient.add(dense({10, 10, 10, 10, 10, 10}));
  CHECK(gradient.dense().to_vector<float>() == Values{11, 12, 13, 14, 15, 16});
  CHECK(gradient.values().shape() == Shape{3, 2});
  CHECK_THROWS_AS(gradient.rows(), InvalidArgument);
  CHECK_THROWS_AS(gradient.add(Tensor::zeros({2, 3}, kTest)), InvalidArgument);
  CHECK_THROWS_AS(gradient.add(Tensor()), InvalidArgument);
  CHECK_THROWS_AS(gradient.add(Tensor::zeros({3, 2}, kTest, DType::int32)), InvalidArgument);
  gradient.clear();
  CHECK(gradient.empty());
}

TEST_CASE("the first dense part is adopted, later ones are added into it") {
  const MemoryFigures before = allocator().current();
  Gradient gradient;
  Tensor first = dense({1, 2, 3, 4, 5, 6});
  void* const storage = first.raw();
  gradient.add(std::move(first));
  gradient.add(dense({1, 1, 1, 1, 1, 1}));
  CHECK(gradient.dense().raw() == storage);
  CHECK(allocator().current().total - before.total == 24);
}

TEST_CASE("a part that others share is not written to") {
  const Tensor shared = dense({1, 2, 3, 4, 5, 6});
  Gradient a, b;
  a.add(shared);
  b.add(shared);
  a.add(dense({1, 1, 1, 1, 1, 1}));
  CHECK(a.dense().to_vector<float>() == Values{2, 3, 4, 5, 6, 7});
  b.add(rows({0}, {100, 100}));
  CHECK(b.dense().to_vector<float>() == Values{101, 102, 3, 4, 5, 6});
  CHECK(shared.to_vector<float>() == Values{1, 2, 3, 4, 5, 6});
  Gradient twice;
  twice.add(shared);
  twice.add(shared);
  CHECK(twice.dense().to_vector<float>() == Values{2, 4, 6, 8, 10, 12});
  CHECK(shared.to_vector<float>() == Values{1, 2, 3, 4, 5, 6});
}

TEST_CASE("row-sparse parts are kept and coalesced once, on reading") {
  Gradient gradient;
  gradient.add(rows({2, 0, 2}, {1, 2, 3, 4, 5, 6}));
  gradient.add(rows({0}, {10, 20}));
  CHECK(gradient.kind() == Gradient::Kind::row_sparse);
  const RowSparse sum = gradient.rows();
  CHECK(sum.coalesced);
  CHECK(sum.ids.to_vector<int32_t>() == std::vector<int32_t>{0, 2});
  CHECK(sum.values.to_vector<float>() == Values{13, 24, 6, 8});
  CHECK(gradient.rows().values.raw() == sum.values.raw());
  CHECK(gradient.values().raw() == sum.values.raw());
  CHECK_THROWS_AS(gradient.dense(), InvalidArgument);

  gradient.add(rows({1}, {7, 8}));
  CHECK(gradient.rows().ids.to_vector<int32_t>() == std::vector<int32_t>{0, 1, 2});
  CHECK(gradient.values().to_vector<float>() == Values{13, 24, 7, 8, 6, 8});
}

TEST_CASE("a row-sparse gradient of no rows is a gradient") {
  Gradient gradient;
  gradient.add(rows({}, {}));
  CHECK(gradient.kind() == Gradient::Kind::row_sparse);
  CHECK(gradient.rows().count() == 0);
  CHECK(gradient.values().shape() == Shape{0, 2});
}

TEST_CASE("dense makes the whole dense, in either order") {
  const Values expected = {11, 22, 3, 4, 8, 10};
  Gradient dense_first;
  dense_first.add(dense({1, 2, 3, 4, 5, 6}));
  dense_first.add(rows({0, 2}, {10, 20, 1, 1}));
  dense_first.add(rows({2, 2}, {1, 2, 1, 1}));
  CHECK(dense_first.dense().to_vector<float>() == expected);

  Gradient rows_first;
  rows_first.add(rows({0, 2}, {10, 20, 1, 1}));
  rows_first.add(rows({2, 2}, {1, 2, 1, 1}));
  rows_first.add(dense({1, 2, 3, 4, 5, 6}));
  CHECK(rows_first.kind() == Gradient::Kind::dense);
  CHECK(rows_first.dense().to_vector<float>() == expected);

  Gradient between;
  between.add(rows({0, 2}, {10, 20, 1, 1}));
  between.add(dense({1, 2, 3, 4, 5, 6}));
  between.add(rows({2, 2}, {1, 2, 1, 1}));
  CHECK(between.dense().to_vector<float>() == expected);
}

TEST_CASE("a part that says it is coalesced is believed only once it was checked") {
  const auto claimed = [](const std::vector<int32_t>& ids) {
    RowSparse part = rows(ids, Values(2 * ids.size(), 1.0f));
    part.coalesced = true;
    return part;
  };
  Gradient gradient;
  CHECK_THROWS_WITH_AS(gradient.add(claimed({0, 3})),
                       "[coalesce] row 3 (entry 1) is outside a table of 3 rows", InvalidArgument);
  CHECK_THROWS_WITH_AS(gradient.add(claimed({1, 1})),
                       doctest::Contains("row 1 (entry 1) follows row 1"), InvalidArgument);
  CHECK(gradient.empty());
  const RowSparse right = claimed({0, 2});
  gradient.add(right);
  CHECK(gradient.rows().values.raw() == right.values.raw());
}

TEST_CASE("rows of another table are refused") {
  Gradient gradient;
  gradient.add(dense({1, 2, 3, 4, 5, 6}));
  RowSparse other = rows({0}, {1, 1});
  other.table_rows = 4;
  CHECK_THROWS_AS(gradient.add(other), InvalidArgument);
  CHECK_THROWS_AS(gradient.add(rows({3}, {1, 1})), InvalidArgument);
  CHECK_THROWS_AS(gradient.add(RowSparse{}), InvalidArgument);
}

TEST_CASE("values of any dense shape are a matrix") {
  Gradient gradient;
  gradient.add(Tensor::zeros({2, 3, 4}, kTest));
  CHECK(gradient.values().shape() == Shape{6, 4});
  gradient.clear();
  gradient.add(Tensor::zeros({5}, kTest));
  CHECK(gradient.values().shape() == Shape{1, 5});
}

}  // namespace
}  // namespace sketchgrad
