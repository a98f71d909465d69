#include "sketchgrad/apps/common/batches.h"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

namespace sketchgrad::apps {
namespace {

Tensor counting(int64_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return Tensor::from(ids, {count}, {Category::data, "ids"});
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

TEST_CASE("batches: too little text is refused") {
  CHECK_THROWS_AS(ColumnBatches(counting(5), 3, 4), InvalidArgument);
  CHECK_THROWS_AS(ColumnBatches(counting(5), 0, 4), InvalidArgument);
  CHECK_THROWS_AS(ColumnBatches(counting(5), 1, 4).segment(1), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::apps
