#include "sketchgrad/apps/common/batches.h"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

namespace sketchgrad::apps {
namespace {

TokenIds counting(int64_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return TokenIds(Tensor::from(ids, {count}, {Category::data, "ids"}));
}

TEST_CASE("batches: columns side by side, targets one later, a short last segment") {
  // Columns 0..6 and 7..13; 14 is left over.
  const ColumnBatches batches(counting(15), /*batch=*/2, /*bptt=*/4);
  CHECK(batches.segments() == 2);
  CHECK(batches.targets() == 12);
  const Segment first = batches.segment(0);
  CHECK(first.inputs.shape() == Shape{4, 2});
  CHECK(first.inputs.to_vector<int32_t>() == std::vector<int32_t>{0, 7, 1, 8, 2, 9, 3, 10});
  CHECK(first.targets.to_vector<int32_t>() == std::vector<int32_t>{1, 8, 2, 9, 3, 10, 4, 11});
  const Segment last = batches.segment(1);
  CHECK(last.inputs.to_vector<int32_t>() == std::vector<int32_t>{4, 11, 5, 12});
  CHECK(last.targets.to_vector<int32_t>() == std::vector<int32_t>{5, 12, 6, 13});
  CHECK(first.tokens() + last.tokens() == batches.targets());
}

TEST_CASE("batches: segments that fit exactly") {
  const ColumnBatches batches(counting(9), 1, 4);
  CHECK(batches.segments() == 2);
  CHECK(batches.segment(1).targets.to_vector<int32_t>() == std::vector<int32_t>{5, 6, 7, 8});
}

TEST_CASE("batches: of the first tokens only") {
  const ColumnBatches limited(counting(100), 2, 4, /*limit=*/15);
  const ColumnBatches alone(counting(15), 2, 4);
  REQUIRE(limited.segments() == alone.segments());
  CHECK(limited.segment(0).inputs.to_vector<int32_t>() ==
        alone.segment(0).inputs.to_vector<int32_t>());
  CHECK(ColumnBatches(counting(15), 2, 4, 16).targets() == alone.targets());
}

TEST_CASE("batches: only a segment is copied") {
  const TokenIds ids = counting(1'000'000);
  const int64_t before = allocator().current().total;
  const ColumnBatches batches(ids, 10, 7);
  const Segment segment = batches.segment(3);
  CHECK(allocator().current().total - before == 2 * 7 * 10 * 4);
}

TEST_CASE("batches: too little text is refused") {
  CHECK_THROWS_AS(ColumnBatches(counting(5), 3, 4), InvalidArgument);
  CHECK_THROWS_AS(ColumnBatches(counting(5), 0, 4), InvalidArgument);
  CHECK_THROWS_AS(ColumnBatches(counting(50), 3, 4, /*limit=*/5), InvalidArgument);
  CHECK_THROWS_AS(ColumnBatches(counting(5), 1, 4).segment(1), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::apps
