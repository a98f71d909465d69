#include "sketchgrad/kernels/launch.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "sketchgrad/kernels/lane_group.h"

using namespace sketchgrad::kernels;

namespace {

constexpr int64_t kBeyondInt32 = (int64_t{1} << 31) + 3;

void check_limits(const LaunchShape& shape) {
  CHECK(shape.block_x * shape.block_y == kThreadsPerBlock);
  CHECK(shape.grid_x <= kMaxGridBlocks);
  CHECK(shape.grid_y <= kMaxGridBlocks);
}

// What the grid-stride kernels of cuda_policy.cuh visit.
std::vector<int> visits(const LaunchShape& shape, int64_t rows, int64_t cols) {
  std::vector<int> count(static_cast<size_t>(rows * cols));
  const int64_t row_step = int64_t{shape.grid_x} * shape.block_y;
  const int64_t col_step = int64_t{shape.grid_y} * shape.block_x;
  for (int64_t first_row = 0; first_row < row_step; ++first_row) {
    for (int64_t first_col = 0; first_col < col_step; ++first_col) {
      for (int64_t r = first_row; r < rows; r += row_step) {
        for (int64_t c = first_col; c < cols; c += col_step) {
          ++count[static_cast<size_t>(r * cols + c)];
        }
      }
    }
  }
  return count;
}

// The same for lane_group_kernel: how often each lane of a unit's group takes part in it.
std::vector<int> lane_visits(const LaunchShape& shape, int64_t units, int lanes) {
  std::vector<int> count(static_cast<size_t>(units * lanes));
  const int64_t groups = shape.block_x / lanes;
  for (int64_t block = 0; block < shape.grid_x; ++block) {
    for (int64_t thread = 0; thread < shape.block_x; ++thread) {
      for (int64_t u = block * groups + thread / lanes; u < units; u += shape.grid_x * groups) {
        ++count[static_cast<size_t>(u * lanes + thread % lanes)];
      }
    }
  }
  return count;
}

constexpr int kLaneCounts[] = {1, 2, 4, 8, 16, 32};

}  // namespace

TEST_CASE("launch: nothing is launched for nothing") {
  CHECK(launch_shape(0).grid_x == 0);
  CHECK(launch_shape(-1).grid_x == 0);
  CHECK(row_launch_shape(0, 5).grid_x == 0);
  CHECK(row_launch_shape(5, 0).grid_y == 0);
}

TEST_CASE("launch: blocks cover the elements up to the limit of the grid") {
  CHECK(launch_shape(1).grid_x == 1);
  CHECK(launch_shape(255).grid_x == 1);
  CHECK(launch_shape(256).grid_x == 1);
  CHECK(launch_shape(257).grid_x == 2);
  CHECK(launch_shape(kBeyondInt32).grid_x == kMaxGridBlocks);
  CHECK(launch_shape(INT64_MAX).grid_x == kMaxGridBlocks);
  for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{12345}, kBeyondInt32, INT64_MAX}) {
    check_limits(launch_shape(count));
  }
}

TEST_CASE("launch: rows and columns beyond 2^31 stay inside the limits of the grid") {
  for (const int64_t rows : {int64_t{1}, int64_t{77}, kBeyondInt32, INT64_MAX}) {
    for (const int64_t cols : {int64_t{1}, int64_t{7}, int64_t{256}, int64_t{257}, kBeyondInt32}) {
      CAPTURE(rows);
      CAPTURE(cols);
      const LaunchShape shape = row_launch_shape(rows, cols);
      check_limits(shape);
      CHECK(shape.grid_x >= 1);
      CHECK(shape.grid_y >= 1);
    }
  }
}

TEST_CASE("launch: narrow rows share a block, wide ones take several") {
  CHECK(row_launch_shape(1000, 1).block_y == 256);
  CHECK(row_launch_shape(1000, 7).block_x == 8);
  CHECK(row_launch_shape(1000, 33).block_x == 64);
  CHECK(row_launch_shape(1000, 1000).block_x == 256);
  CHECK(row_launch_shape(1000, 1000).grid_y == 4);
}

TEST_CASE("launch: lane groups share blocks, and none is cut by a warp or a block") {
  for (const int lanes : kLaneCounts) {
    CAPTURE(lanes);
    CHECK(kWarpLanes % lanes == 0);
    CHECK(lane_launch_shape(0, lanes).grid_x == 0);
    CHECK(lane_launch_shape(-1, lanes).grid_x == 0);
    CHECK(lane_launch_shape(1, lanes).grid_x == 1);
    CHECK(lane_launch_shape(256 / lanes, lanes).grid_x == 1);
    CHECK(lane_launch_shape(256 / lanes + 1, lanes).grid_x == 2);
    for (const int64_t units : {int64_t{1}, int64_t{77}, kBeyondInt32, INT64_MAX}) {
      check_limits(lane_launch_shape(units, lanes));
    }
    CHECK(lane_launch_shape(kBeyondInt32, lanes).grid_x == kMaxGridBlocks);
  }
}

TEST_CASE("launch: every lane of a group takes part in each of its units once") {
  for (const int lanes : kLaneCounts) {
    for (const int64_t units : {1, 7, 33, 1000}) {
      CAPTURE(lanes);
      CAPTURE(units);
      const std::vector<int> whole = lane_visits(lane_launch_shape(units, lanes), units, lanes);
      CHECK(whole == std::vector<int>(whole.size(), 1));
      // A grid that has to stride, as one at its limit does.
      LaunchShape two_blocks = lane_launch_shape(units, lanes);
      two_blocks.grid_x = 2;
      const std::vector<int> strided = lane_visits(two_blocks, units, lanes);
      CHECK(strided == std::vector<int>(strided.size(), 1));
    }
  }
}

TEST_CASE("launch: every cell is visited once") {
  for (const int64_t rows : {1, 7, 300}) {
    for (const int64_t cols : {1, 7, 33, 600}) {
      CAPTURE(rows);
      CAPTURE(cols);
      const std::vector<int> count = visits(row_launch_shape(rows, cols), rows, cols);
      CHECK(count == std::vector<int>(count.size(), 1));
    }
  }
}
