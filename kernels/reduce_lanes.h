#pragma once

#include <algorithm>
#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lane_group.h"
#include "sketchgrad/kernels/reduce_rules.h"
#include "sketchgrad/kernels/views.h"

// Reductions on the GPU: blocks of fixed size, each summed by a lane group, then their sums by one.
// The order depends on the number of elements alone.
namespace sketchgrad::kernels {

inline constexpr int64_t kLaneBlock = 4096;

template <class T, class Map, class Combine>
struct ReduceBlock {
  int64_t count;
  Map map;
  Combine combine;
  T neutral;
  T* partial;

  template <class Group>
  SG_HD void operator()(const Group& group, int64_t block) const {
    const int64_t end = (block + 1) * kLaneBlock < count ? (block + 1) * kLaneBlock : count;
    T total = neutral;
    for (int64_t i = block * kLaneBlock + group.lane(); i < end; i += group.lanes()) {
      total = combine(total, map(i));
    }
    total = combine_over_lanes(group, total, combine);
    if (group.lane() == 0) partial[block] = total;
  }
};

template <class T, class Combine, class Finish>
struct ReducePartial {
  int64_t count;
  const T* partial;
  Combine combine;
  T neutral;
  Finish finish;

  template <class Group>
  SG_HD void operator()(const Group& group, int64_t) const {
    T total = neutral;
    for (int64_t i = group.lane(); i < count; i += group.lanes()) {
      total = combine(total, partial[i]);
    }
    total = combine_over_lanes(group, total, combine);
    if (group.lane() == 0) finish(total);
  }
};

// finish(map(0) + map(1) + ... + map(count - 1)), + being `combine`: on the device, in one thread.
template <class T, class Policy, class Map, class Combine, class Finish>
void reduce_by_lanes(const Policy& policy, const Exec& exec, int64_t count, const Map& map,
                     const Combine& combine, T neutral, const Finish& finish) {
  const int64_t blocks = (count + kLaneBlock - 1) / kLaneBlock;
  const ScratchArray<T> partial(exec, blocks, "reduce.partial");
  for_each_unit(policy, blocks, kWarpLanes,
                ReduceBlock<T, Map, Combine>{count, map, combine, neutral, partial.data()});
  for_each_unit(
      policy, 1, kWarpLanes,
      ReducePartial<T, Combine, Finish>{blocks, partial.data(), combine, neutral, finish});
}

// Maps and ends of reductions.
template <class Map>
struct MapElement {
  const float* in;
  SG_HD double operator()(int64_t i) const { return Map::of(in[i]); }
};
template <class T>
struct StoreResult {
  T* out;
  SG_HD void operator()(T total) const { *out = total; }
};
struct StoreScaled {
  double factor;
  float* out;
  SG_HD void operator()(double total) const { *out = static_cast<float>(factor * total); }
};
struct AddResult {
  double* out;
  SG_HD void operator()(double total) const { *out += total; }
};

// Columns: a thread takes kLaneRows rows of one.
inline constexpr int64_t kLaneRows = 128;

template <class Element>
struct ReduceColumnSlice {
  Element element;
  int64_t rows;
  int64_t cols;
  double* partial;  // [slices, columns]
  struct Column {
    Element element;
    int64_t begin;
    int64_t end;
    double* partial;
    SG_HD void operator()(int64_t c) const {
      double result = 0.0;
      for (int64_t r = begin; r < end; ++r) {
        if (!element.skip(r)) result = Element::Op::of(result, element.row(r)(c));
      }
      partial[c] = result;
    }
  };
  SG_HD Column operator()(int64_t slice) const {
    const int64_t begin = slice * kLaneRows;
    return {element, begin, begin + kLaneRows < rows ? begin + kLaneRows : rows,
            partial + slice * cols};
  }
};

template <class Op, class Finish>
struct ReduceColumnSlices {
  const double* partial;
  int64_t slices;
  int64_t cols;
  Finish finish;
  SG_HD void operator()(int64_t c) const {
    double result = 0.0;
    for (int64_t s = 0; s < slices; ++s) result = Op::of(result, partial[s * cols + c]);
    finish(c, static_cast<float>(result));
  }
};

// As impl::reduce_columns (reduce_impl.h).
template <class Policy, class Element, class Finish>
void reduce_columns_by_lanes(const Policy& policy, const Exec& exec, const Element& element,
                             int64_t rows, int64_t cols, const Finish& finish) {
  const int64_t slices = (rows + kLaneRows - 1) / kLaneRows;
  const ScratchArray<double> partial(exec, slices * cols, "reduce.columns");
  for_each_row(policy, slices, cols,
               ReduceColumnSlice<Element>{element, rows, cols, partial.data()});
  for_each(policy, cols,
           ReduceColumnSlices<typename Element::Op, Finish>{partial.data(), slices, cols, finish});
}

template <class Policy>
void add_column_sums_by_lanes(const Policy& policy, const Exec& exec, ConstMatrix in, float* out) {
  if (in.rows == 0) return;
  reduce_columns_by_lanes(policy, exec, ValueElement{in}, in.rows, in.cols, AddToColumn{out});
}

}  // namespace sketchgrad::kernels
