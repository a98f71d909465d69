#pragma once

#include <algorithm>
#include <cstdint>

namespace sketchgrad::kernels {

// Geometry of a CUDA launch, computed on the host so that it can be tested without a GPU. Kernels
// walk with a grid stride, so every geometry covers every size; only the speed depends on it.
struct LaunchShape {
  uint32_t grid_x = 1;
  uint32_t grid_y = 1;
  uint32_t block_x = 1;
  uint32_t block_y = 1;
};

inline constexpr int64_t kThreadsPerBlock = 256;
// The limit of CUDA's grid.y, and more blocks than any GPU holds at a time.
inline constexpr int64_t kMaxGridBlocks = 65535;

constexpr uint32_t grid_blocks(int64_t count, int64_t per_block) {
  if (count <= 0) return 0;
  return static_cast<uint32_t>(std::min((count - 1) / per_block + 1, kMaxGridBlocks));
}

// For one loop over `count` elements. No blocks (nothing to launch) for an empty one.
constexpr LaunchShape launch_shape(int64_t count) {
  return {grid_blocks(count, kThreadsPerBlock), 1, static_cast<uint32_t>(kThreadsPerBlock), 1};
}

// For a loop over rows (y of the block, x of the grid) and columns (x of the block, y of the grid):
// neighbouring threads take neighbouring columns, and narrow rows share a block.
constexpr LaunchShape row_launch_shape(int64_t rows, int64_t cols) {
  int64_t width = 1;
  while (width < cols && width < kThreadsPerBlock) width *= 2;
  const int64_t height = kThreadsPerBlock / width;
  return {grid_blocks(rows, height), grid_blocks(cols, width), static_cast<uint32_t>(width),
          static_cast<uint32_t>(height)};
}

// For units that lane groups (lane_group.h) of `lanes` threads take, several groups a block.
constexpr LaunchShape lane_launch_shape(int64_t units, int lanes) {
  return {grid_blocks(units, kThreadsPerBlock / lanes), 1, static_cast<uint32_t>(kThreadsPerBlock),
          1};
}

}  // namespace sketchgrad::kernels
