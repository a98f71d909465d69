#pragma once

#include <algorithm>
#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/reduce_rules.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

// The device bodies behind reduce.h.
namespace cpu {
double sum(const Exec&, const float* in, int64_t count);
double sum_of_squares(const Exec&, const float* in, int64_t count);
void scaled_sum(const Exec&, const float* in, int64_t count, double factor, float* out);
void add_sum_of_squares(const Exec&, const float* in, int64_t count, double* total);
void clip_factor(const Exec&, const double* squares, double max_norm, float* norm, float* factor);
void add_column_sums(const Exec&, ConstMatrix in, float* out);
}  // namespace cpu
namespace cuda {
double sum(const Exec&, const float* in, int64_t count);
double sum_of_squares(const Exec&, const float* in, int64_t count);
void scaled_sum(const Exec&, const float* in, int64_t count, double factor, float* out);
void add_sum_of_squares(const Exec&, const float* in, int64_t count, double* total);
void clip_factor(const Exec&, const double* squares, double max_norm, float* norm, float* factor);
void add_column_sums(const Exec&, ConstMatrix in, float* out);
}  // namespace cuda

namespace impl {

// Rows and columns that one task of add_column_sums takes: narrower tiles defeat the prefetcher.
inline constexpr int64_t kColumnSumRows = 256;
inline constexpr int64_t kColumnSumCols = 1024;

template <class Map>
double reduce_range(const float* in, int64_t count) {
  double total = 0.0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < count; ++i) total += Map::of(in[i]);
  return total;
}

template <class Map, class Policy>
double reduce_array(const Policy& policy, const Exec& exec, const float* in, int64_t count) {
  if (count <= kBlockElements) return reduce_range<Map>(in, count);
  const int64_t blocks = (count + kBlockElements - 1) / kBlockElements;
  const ScratchArray<double> partial(exec, blocks, "reduce.partial");
  for_each_range(policy, count, kBlockElements, [&](int64_t begin, int64_t end) {
    partial[begin / kBlockElements] = reduce_range<Map>(in + begin, end - begin);
  });
  double total = 0.0;
  for (int64_t b = 0; b < blocks; ++b) total += partial[b];
  return total;
}

// out[c] = sum over r of in(r, c)
inline void sum_columns(ConstMatrix in, double* out) {
  std::fill_n(out, in.cols, 0.0);
  for (int64_t r = 0; r < in.rows; ++r) {
    const float* row = in.row(r);
#pragma omp simd
    for (int64_t c = 0; c < in.cols; ++c) out[c] += Value::of(row[c]);
  }
}

template <class Policy>
void add_column_sums(const Policy& policy, const Exec& exec, ConstMatrix in, float* out) {
  if (in.rows == 0 || in.cols == 0) return;
  const int64_t slices = (in.rows + kColumnSumRows - 1) / kColumnSumRows;
  const int64_t tiles = (in.cols + kColumnSumCols - 1) / kColumnSumCols;
  const ScratchArray<double> partial(exec, slices * in.cols, "add_column_sums.partial");
  Policy::for_each_block(slices * tiles, [&](int64_t block) {
    const int64_t row = block / tiles * kColumnSumRows;
    const int64_t col = block % tiles * kColumnSumCols;
    sum_columns(in.row_range(row, std::min(kColumnSumRows, in.rows - row))
                    .columns(col, std::min(kColumnSumCols, in.cols - col)),
                partial.data() + block / tiles * in.cols + col);
  });
  for_each_range(policy, in.cols, kBlockElements / slices, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      double total = 0.0;
      for (int64_t s = 0; s < slices; ++s) total += partial[s * in.cols + c];
      out[c] += static_cast<float>(total);
    }
  });
}

}  // namespace impl
}  // namespace sketchgrad::kernels
