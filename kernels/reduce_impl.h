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

// Rows and columns that one task of reduce_columns takes: narrower tiles defeat the prefetcher.
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

// finish(c, element.row(0)(c) op element.row(1)(c) op ...) for each column; rows that
// element.skip() says are left out.
template <class Policy, class Element, class Finish>
void reduce_columns(const Policy& policy, const Exec& exec, const Element& element, int64_t rows,
                    int64_t cols, const Finish& finish) {
  using Op = typename Element::Op;
  if (cols == 0) return;
  const int64_t slices = (rows + kColumnSumRows - 1) / kColumnSumRows;
  const int64_t tiles = (cols + kColumnSumCols - 1) / kColumnSumCols;
  const ScratchArray<double> partial(exec, slices * cols, "reduce.columns");
  Policy::for_each_block(slices * tiles, [&](int64_t block) {
    const int64_t first = block / tiles * kColumnSumRows;
    const int64_t column = block % tiles * kColumnSumCols;
    const int64_t columns = std::min(kColumnSumCols, cols - column);
    double* const results = partial.data() + block / tiles * cols + column;
    std::fill_n(results, columns, 0.0);
    for (int64_t r = first; r < std::min(rows, first + kColumnSumRows); ++r) {
      if (element.skip(r)) continue;
      const auto row = element.row(r);
#pragma omp simd
      for (int64_t c = 0; c < columns; ++c) results[c] = Op::of(results[c], row(column + c));
    }
  });
  for_each_range(policy, cols, kBlockElements / std::max<int64_t>(slices, 1),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t c = begin; c < end; ++c) {
                     double result = 0.0;
                     for (int64_t s = 0; s < slices; ++s) {
                       result = Op::of(result, partial[s * cols + c]);
                     }
                     finish(c, static_cast<float>(result));
                   }
                 });
}

template <class Policy>
void add_column_sums(const Policy& policy, const Exec& exec, ConstMatrix in, float* out) {
  if (in.rows == 0) return;
  reduce_columns(policy, exec, ValueElement{in}, in.rows, in.cols, AddToColumn{out});
}

}  // namespace impl
}  // namespace sketchgrad::kernels
