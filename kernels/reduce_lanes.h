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

struct SumColumnSlice {
  ConstMatrix in;
  double* partial;  // [slices, columns]
  struct Column {
    ConstMatrix rows;
    double* partial;
    SG_HD void operator()(int64_t c) const {
      double total = 0.0;
      for (int64_t r = 0; r < rows.rows; ++r) total += Value::of(rows(r, c));
      partial[c] = total;
    }
  };
  SG_HD Column operator()(int64_t slice) const {
    const int64_t begin = slice * kLaneRows;
    const int64_t left = in.rows - begin;
    return {in.row_range(begin, left < kLaneRows ? left : kLaneRows), partial + slice * in.cols};
  }
};

struct AddColumnSlices {
  const double* partial;
  int64_t slices;
  int64_t cols;
  float* out;
  SG_HD void operator()(int64_t c) const {
    double total = 0.0;
    for (int64_t s = 0; s < slices; ++s) total += partial[s * cols + c];
    out[c] += static_cast<float>(total);
  }
};

template <class Policy>
void add_column_sums_by_lanes(const Policy& policy, const Exec& exec, ConstMatrix in, float* out) {
  if (in.rows == 0 || in.cols == 0) return;
  const int64_t slices = (in.rows + kLaneRows - 1) / kLaneRows;
  const ScratchArray<double> partial(exec, slices * in.cols, "add_column_sums.partial");
  for_each_row(policy, slices, in.cols, SumColumnSlice{in, partial.data()});
  for_each(policy, in.cols, AddColumnSlices{partial.data(), slices, in.cols, out});
}

}  // namespace sketchgrad::kernels
