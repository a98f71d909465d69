#include "sketchgrad/apps/common/shuffle.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {
namespace {

std::vector<int64_t> order_of(int64_t count, kernels::PhiloxKey key) {
  const Shuffle shuffle(count, key);
  std::vector<int64_t> order;
  for (int64_t i = 0; i < count; ++i) order.push_back(shuffle(i));
  return order;
}

TEST_CASE("shuffle: every element stands once") {
  for (const int64_t count : {1, 2, 3, 4, 5, 16, 17, 1000, 65536, 65537}) {
    CAPTURE(count);
    std::vector<bool> seen(static_cast<size_t>(count));
    for (const int64_t value : order_of(count, {7, 3})) {
      REQUIRE(value >= 0);
      REQUIRE(value < count);
      REQUIRE_FALSE(seen[static_cast<size_t>(value)]);
      seen[static_cast<size_t>(value)] = true;
    }
  }
}

TEST_CASE("shuffle: another key is another order, the same key the same") {
  CHECK(order_of(100, {1, 2}) == order_of(100, {1, 2}));
  CHECK(order_of(100, {1, 2}) != order_of(100, {1, 3}));
  CHECK(order_of(100, {1, 2}) != order_of(100, {2, 2}));
}

TEST_CASE("shuffle: the first two places hold each pair of elements equally often") {
  for (const int64_t count : {4, 7, 30}) {
    CAPTURE(count);
    constexpr int kDraws = 20000;
    std::vector<int> pairs(static_cast<size_t>(count * count));
    for (uint64_t i = 0; i < kDraws; ++i) {
      const Shuffle order(count, {11, i});
      ++pairs[static_cast<size_t>(order(0) * count + order(1))];
    }
    const double expected = kDraws / static_cast<double>(count * (count - 1));
    double chi_square = 0;
    for (int64_t i = 0; i < count * count; ++i) {
      const int found = pairs[static_cast<size_t>(i)];
      if (i % count == i / count) {
        CHECK(found == 0);
      } else {
        chi_square += (found - expected) * (found - expected) / expected;
      }
    }
    const auto degrees = static_cast<double>(count * (count - 1) - 1);
    CHECK(std::abs(chi_square - degrees) < 5 * std::sqrt(2 * degrees));
  }
}

TEST_CASE("shuffle: refuses nothing to shuffle") {
  CHECK_THROWS_WITH_AS(Shuffle(0, {}), "[shuffle] 0 elements, there must be at least 1",
                       InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::apps
