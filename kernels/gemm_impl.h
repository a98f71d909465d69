#pragma once

#include <algorithm>
#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/gemm.h"

namespace sketchgrad::kernels {

// The device bodies behind gemm.h. Requires what gemm.cpp has checked.
namespace cpu {
void gemm(const Exec&, Transpose transpose_a, Transpose transpose_b, float alpha, ConstMatrix a,
          ConstMatrix b, float beta, Matrix c);
}  // namespace cpu
namespace cuda {
void gemm(const Exec&, Transpose transpose_a, Transpose transpose_b, float alpha, ConstMatrix a,
          ConstMatrix b, float beta, Matrix c);
}  // namespace cuda

namespace impl {

// How a product [m, k] x [k, n] is cut: c into tiles, and k into slices of `depth`.
struct GemmPlan {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t depth = 0;
  int64_t row_tiles = 0;
  int64_t col_tiles = 0;
  int64_t slices = 1;
};

constexpr int64_t divide_up(int64_t size, int64_t part) { return (size + part - 1) / part; }
constexpr int64_t round_up(int64_t size, int64_t unit) { return divide_up(size, unit) * unit; }

// The limits come from measurements of dnnl_sgemm: it is at its best with few rows and not too many
// columns, or with many of both. Rows and columns are whole multiples of its AVX-512 register block
// of 8 x 48.
inline constexpr int64_t kTileRows = 704;
inline constexpr int64_t kFewRows = 352;
constexpr int64_t tile_cols(int64_t rows) { return rows > kFewRows ? 2016 : 1008; }
inline constexpr int64_t kRowUnit = 8;
inline constexpr int64_t kColUnit = 48;
// Enough tasks for the cores of a workstation, as long as each is worth starting (about 15 us).
inline constexpr int64_t kTasks = 12;
inline constexpr double kMinTaskFlops = 2e6;
// A shorter slice would spend too much on writing and adding its partial sums.
inline constexpr int64_t kMinSliceDepth = 1024;

// A part of at most `limit` that cuts `size` into nearly equal parts.
constexpr int64_t even_part(int64_t size, int64_t limit, int64_t unit) {
  const int64_t parts = divide_up(size, limit);
  return std::min(size, round_up(divide_up(size, parts), unit));
}

// Requires m, n, k > 0.
constexpr GemmPlan plan_gemm(int64_t m, int64_t n, int64_t k) {
  GemmPlan plan{even_part(m, kTileRows, kRowUnit), 0, k};
  plan.cols = even_part(n, tile_cols(plan.rows), kColUnit);
  for (;;) {
    plan.row_tiles = divide_up(m, plan.rows);
    plan.col_tiles = divide_up(n, plan.cols);
    plan.slices = divide_up(k, plan.depth);
    const double flops = 2.0 * static_cast<double>(plan.rows) * static_cast<double>(plan.cols) *
                         static_cast<double>(plan.depth);
    if (plan.row_tiles * plan.col_tiles * plan.slices >= kTasks || flops < 2.0 * kMinTaskFlops) {
      return plan;
    }
    if (plan.depth >= 2 * kMinSliceDepth) {
      plan.depth = divide_up(plan.depth, 2);
    } else if (plan.cols >= plan.rows && plan.cols >= 2 * kColUnit) {
      plan.cols = round_up(divide_up(plan.cols, 2), kRowUnit);
    } else if (plan.rows >= 2 * kRowUnit) {
      plan.rows = round_up(divide_up(plan.rows, 2), kRowUnit);
    } else {
      return plan;
    }
  }
}

// Rows and columns of op(matrix), as a part of the stored matrix.
inline ConstMatrix operand_block(ConstMatrix matrix, Transpose transpose, int64_t row, int64_t rows,
                                 int64_t col, int64_t cols) {
  return transpose == Transpose::yes ? matrix.row_range(col, cols).columns(row, rows)
                                     : matrix.row_range(row, rows).columns(col, cols);
}

// c = beta * c
template <class Policy>
void scale_in_place(const Policy& policy, float beta, Matrix c) {
  for_each_range(policy, c.rows, kBlockElements / std::max<int64_t>(c.cols, 1),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t r = begin; r < end; ++r) {
                     float* const row = c.row(r);
                     for (int64_t j = 0; j < c.cols; ++j) row[j] = beta == 0 ? 0 : beta * row[j];
                   }
                 });
}

// c = beta * c + partial[0] + partial[1] + ..., in this order. Shape: partial [slices, rows, cols].
template <class Policy>
void add_slices(const Policy& policy, const float* partial, int64_t slices, float beta, Matrix c) {
  for_each_range(policy, c.rows, kBlockElements / (slices * c.cols),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t r = begin; r < end; ++r) {
                     float* const row = c.row(r);
                     for (int64_t s = 0; s < slices; ++s) {
                       const float* const part = partial + (s * c.rows + r) * c.cols;
                       const float keep = s == 0 ? beta : 1.0f;
#pragma omp simd
                       for (int64_t j = 0; j < c.cols; ++j) {
                         row[j] = part[j] + (keep == 0 ? 0 : keep * row[j]);
                       }
                     }
                   }
                 });
}

// `product` computes one tile in the calling thread: product(transpose_a, transpose_b, alpha, a, b,
// beta, c), as gemm.
template <class Policy, class Product>
void gemm(const Policy& policy, const Exec& exec, const Product& product, Transpose transpose_a,
          Transpose transpose_b, float alpha, ConstMatrix a, ConstMatrix b, float beta, Matrix c) {
  const int64_t depth = transpose_a == Transpose::yes ? a.rows : a.cols;
  if (c.rows == 0 || c.cols == 0) return;
  if (depth == 0 || alpha == 0) return scale_in_place(policy, beta, c);

  const GemmPlan plan = plan_gemm(c.rows, c.cols, depth);
  const bool sliced = plan.slices > 1;
  const ScratchArray<float> partial(exec, sliced ? plan.slices * c.rows * c.cols : 0,
                                    "gemm partial sums");
  // Tiles that share columns of b follow each other: the panel of b is the larger one to fetch.
  policy.for_each_block(plan.slices * plan.col_tiles * plan.row_tiles, [&](int64_t block) {
    const int64_t row = block % plan.row_tiles * plan.rows;
    const int64_t col = block / plan.row_tiles % plan.col_tiles * plan.cols;
    const int64_t slice = block / plan.row_tiles / plan.col_tiles;
    const int64_t begin = slice * plan.depth;
    const int64_t rows = std::min(plan.rows, c.rows - row);
    const int64_t cols = std::min(plan.cols, c.cols - col);
    const int64_t count = std::min(plan.depth, depth - begin);
    const Matrix target =
        sliced ? contiguous(partial.data() + slice * c.rows * c.cols, c.rows, c.cols) : c;
    product(transpose_a, transpose_b, alpha, operand_block(a, transpose_a, row, rows, begin, count),
            operand_block(b, transpose_b, begin, count, col, cols), sliced ? 0.0f : beta,
            target.row_range(row, rows).columns(col, cols));
  });
  if (sliced) add_slices(policy, partial.data(), plan.slices, beta, c);
}

}  // namespace impl
}  // namespace sketchgrad::kernels
