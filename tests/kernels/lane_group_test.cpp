#include "sketchgrad/kernels/lane_group.h"

#include <doctest/doctest.h>

#include <set>
#include <stdexcept>
#include <vector>

#include "sketchgrad/tests/support/emulated_warp.h"

namespace sketchgrad::kernels {
namespace {

using test::EmulatedPolicy;

TEST_CASE("lane group: all lanes have the sum, in the same bits") {
  for (int lanes = 1; lanes <= kWarpLanes; lanes *= 2) {
    std::vector<float> sums(static_cast<size_t>(3 * lanes));
    for_each_unit(EmulatedPolicy{{}, 7}, 3, lanes, [&](const auto& group, int64_t unit) {
      CHECK(group.lanes() == lanes);
      const float value = 0.1f * static_cast<float>(group.lane() + 1) + static_cast<float>(unit);
      sums[static_cast<size_t>(unit * lanes + group.lane())] = sum_over_lanes(group, value);
    });
    for (int64_t unit = 0; unit < 3; ++unit) {
      const float first = sums[static_cast<size_t>(unit * lanes)];
      const float expected = 0.05f * static_cast<float>(lanes * (lanes + 1)) +
                             static_cast<float>(unit) * static_cast<float>(lanes);
      CHECK(first == doctest::Approx(expected));
      for (int lane = 0; lane < lanes; ++lane) {
        CHECK(sums[static_cast<size_t>(unit * lanes + lane)] == first);
      }
    }
  }
}

// Each lane overwrites what its neighbour reads.
std::vector<int> shifted(uint32_t order_seed, bool with_sync) {
  constexpr int kLanes = 8;
  std::vector<int> cells(kLanes);
  for (int i = 0; i < kLanes; ++i) cells[static_cast<size_t>(i)] = i;
  for_each_unit(EmulatedPolicy{{}, order_seed}, 1, kLanes, [&](const auto& group, int64_t) {
    const int read = cells[static_cast<size_t>((group.lane() + 1) % kLanes)];
    if (with_sync) group.sync();
    cells[static_cast<size_t>(group.lane())] = read;
  });
  return cells;
}

TEST_CASE("lane group: a missing sync shows in the order of lanes, a sync hides it") {
  std::set<std::vector<int>> racing, synced;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    racing.insert(shifted(seed, false));
    synced.insert(shifted(seed, true));
  }
  CHECK(racing.size() > 1);
  CHECK(synced == std::set<std::vector<int>>{{1, 2, 3, 4, 5, 6, 7, 0}});
}

TEST_CASE("lane group: lanes that leave the others waiting, and lanes that throw, are told") {
  CHECK_THROWS_AS(for_each_unit(EmulatedPolicy{}, 1, 4,
                                [](const auto& group, int64_t) {
                                  if (group.lane() != 2) group.sync();
                                }),
                  std::logic_error);
  CHECK_THROWS_AS(for_each_unit(EmulatedPolicy{}, 1, 4,
                                [](const auto& group, int64_t) {
                                  if (group.lane() == 1) throw std::range_error("lane 1");
                                }),
                  std::range_error);
}

}  // namespace
}  // namespace sketchgrad::kernels
