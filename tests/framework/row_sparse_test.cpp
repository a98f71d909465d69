#include "sketchgrad/framework/row_sparse.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <vector>

#include "sketchgrad/kernels/philox.h"

namespace sketchgrad {
namespace {

const Purpose kTest{Category::data, "test"};

RowSparse make(int64_t table_rows, const std::vector<int32_t>& ids, std::vector<float> values,
               int64_t cols) {
  const auto count = static_cast<int64_t>(ids.size());
  return {table_rows, Tensor::from(ids, {count}, kTest), Tensor::from(values, {count, cols}, kTest),
          false};
}

RowSparse random_part(int64_t table_rows, int64_t count, int64_t cols, uint64_t seed) {
  std::vector<int32_t> ids;
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = kernels::philox_bits({seed, 0}, static_cast<uint64_t>(i));
    // Squared: some rows come up often, as in text.
    const double u = kernels::uniform_from_bits(bits);
    ids.push_back(static_cast<int32_t>(u * u * static_cast<double>(table_rows)));
  }
  for (int64_t i = 0; i < count * cols; ++i) {
    const uint32_t bits = kernels::philox_bits({seed, 1}, static_cast<uint64_t>(i));
    values.push_back(kernels::uniform_from_bits(bits) - 0.5f);
  }
  return make(table_rows, ids, values, cols);
}

using Sums = std::map<int32_t, std::vector<double>>;

Sums reference(const std::vector<RowSparse>& parts) {
  Sums sums;
  for (const RowSparse& part : parts) {
    const auto ids = part.ids.to_vector<int32_t>();
    const auto values = part.values.to_vector<float>();
    const auto cols = static_cast<size_t>(part.values.size(1));
    for (size_t i = 0; i < ids.size(); ++i) {
      std::vector<double>& sum = sums[ids[i]];
      sum.resize(cols);
      for (size_t c = 0; c < cols; ++c) sum[c] += values[i * cols + c];
    }
  }
  return sums;
}

void check_against_reference(const RowSparse& result, const std::vector<RowSparse>& parts) {
  const Sums expected = reference(parts);
  REQUIRE(result.coalesced);
  REQUIRE(result.table_rows == parts[0].table_rows);
  REQUIRE(result.count() == static_cast<int64_t>(expected.size()));
  REQUIRE(result.values.size(1) == parts[0].values.size(1));
  const auto ids = result.ids.to_vector<int32_t>();
  const auto values = result.values.to_vector<float>();
  const auto cols = static_cast<size_t>(result.values.size(1));
  size_t i = 0;
  for (const auto& [id, sum] : expected) {
    REQUIRE(ids[i] == id);
    for (size_t c = 0; c < cols; ++c) {
      REQUIRE(values[i * cols + c] == doctest::Approx(sum[c]).epsilon(1e-4));
    }
    ++i;
  }
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0);
}

TEST_CASE("coalesce agrees with sums in double") {
  for (const int64_t cols : {1, 7, 33}) {
    for (const int64_t count : {0, 1, 2, 100, 5000}) {
      for (const int64_t table_rows : {1, 3, 1000, 2'000'000}) {
        CAPTURE(cols);
        CAPTURE(count);
        CAPTURE(table_rows);
        const std::vector<RowSparse> one = {random_part(table_rows, count, cols, 1)};
        check_against_reference(coalesce(one), one);
        const std::vector<RowSparse> three = {random_part(table_rows, count, cols, 2),
                                              random_part(table_rows, 1, cols, 3),
                                              random_part(table_rows, count, cols, 4)};
        check_against_reference(coalesce(three), three);
      }
    }
  }
}

TEST_CASE("entries are summed in their order, over the parts in theirs") {
  // In float these sums depend on the order: 1e8 + 1 == 1e8.
  const RowSparse forward = make(5, {2, 2, 2}, {1e8f, -1e8f, 1.0f}, 1);
  CHECK(coalesce({forward}).values.item() == 1.0f);
  const RowSparse swallowed = make(5, {2, 2, 2}, {1.0f, 1e8f, -1e8f}, 1);
  CHECK(coalesce({swallowed}).values.item() == 0.0f);
  const RowSparse first = make(5, {4}, {1e8f}, 1);
  const RowSparse second = make(5, {4, 4}, {-1e8f, 1.0f}, 1);
  CHECK(coalesce({first, second}).values.item() == 1.0f);
  CHECK(coalesce({make(5, {4}, {1.0f}, 1), first, make(5, {4}, {-1e8f}, 1)}).values.item() == 0.0f);
}

TEST_CASE("the same bits for any number of threads") {
  const std::vector<RowSparse> parts = {random_part(3000, 40'000, 33, 7),
                                        random_part(3000, 20'000, 33, 8)};
  const auto with_threads = [&](size_t threads) {
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
    return coalesce(parts);
  };
  const RowSparse one = with_threads(1);
  const RowSparse two = with_threads(2);
  CHECK(same_bits(one.ids, two.ids));
  CHECK(same_bits(one.values, two.values));
}

TEST_CASE("the result takes exactly the unique rows, and the workspace is gone") {
  const RowSparse part = make(100, {7, 3, 7, 3, 7}, std::vector<float>(10, 1.0f), 2);
  const MemoryFigures before = allocator().current();
  allocator().reset_peak();
  const RowSparse result = coalesce({part, part});
  const MemoryFigures after = allocator().current();
  CHECK(result.count() == 2);
  CHECK(after[Category::gradient] - before[Category::gradient] == 2 * 2 * 4);
  CHECK(after[Category::index] - before[Category::index] == 2 * 4);
  CHECK(after[Category::workspace] == before[Category::workspace]);
  CHECK(allocator().peak()[Category::gradient] == after[Category::gradient]);
  CHECK(result.ids.unique());
  CHECK(result.values.unique());
}

TEST_CASE("one part that is coalesced already is passed on") {
  RowSparse part = make(100, {3, 7}, {1, 2, 3, 4}, 2);
  part.coalesced = true;
  const RowSparse result = coalesce({part});
  CHECK(result.values.raw() == part.values.raw());
}

TEST_CASE("one part that only says it is coalesced is refused") {
  const auto claim = [](const std::vector<int32_t>& ids) {
    RowSparse part = make(100000, ids, std::vector<float>(ids.size(), 1.0f), 1);
    part.coalesced = true;
    return coalesce({part});
  };
  CHECK_NOTHROW(claim({}));
  CHECK_NOTHROW(claim({5}));
  CHECK_THROWS_WITH_AS(claim({3, 7, 7}),
                       "[coalesce] row 7 (entry 2) follows row 7 in a part that is said to be "
                       "coalesced, its rows must increase",
                       InvalidArgument);
  CHECK_THROWS_AS(claim({7, 3}), InvalidArgument);
  std::vector<int32_t> many(70000);
  std::iota(many.begin(), many.end(), 0);
  CHECK_NOTHROW(claim(many));
  many[65000] = 64999;
  CHECK_THROWS_WITH_AS(claim(many), doctest::Contains("row 64999 (entry 65000) follows row 64999"),
                       InvalidArgument);
}

TEST_CASE("ids outside the table are named") {
  CHECK_THROWS_WITH_AS(coalesce({make(500, {3, 500}, {1, 2}, 1)}),
                       "[coalesce] row 500 (entry 1) is outside a table of 500 rows",
                       InvalidArgument);
  CHECK_THROWS_AS(coalesce({make(500, {-1}, {1}, 1)}), InvalidArgument);
  CHECK_THROWS_WITH_AS(coalesce({make(500, {3}, {1}, 1), make(500, {0, 512}, {1, 2}, 1)}),
                       "[coalesce] row 512 (entry 2) is outside a table of 500 rows",
                       InvalidArgument);
  RowSparse claimed = make(500, {500}, {1}, 1);
  claimed.coalesced = true;
  CHECK_THROWS_AS(coalesce({claimed}), InvalidArgument);
}

TEST_CASE("parts that do not belong together are refused") {
  const RowSparse part = make(5, {1}, {1, 2}, 2);
  CHECK_THROWS_AS(coalesce({}), InvalidArgument);
  CHECK_THROWS_AS(coalesce({RowSparse{}}), InvalidArgument);
  CHECK_THROWS_AS(coalesce({part, make(6, {1}, {1, 2}, 2)}), InvalidArgument);
  CHECK_THROWS_AS(coalesce({part, make(5, {1}, {1, 2, 3}, 3)}), InvalidArgument);
  RowSparse short_ids = part;
  short_ids.ids = Tensor::from<int32_t>({1, 2}, {2}, kTest);
  CHECK_THROWS_AS(coalesce({short_ids}), InvalidArgument);
  RowSparse wrong_type = part;
  wrong_type.ids = Tensor::from<int64_t>({1}, {1}, kTest);
  CHECK_THROWS_AS(coalesce({wrong_type}), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad
