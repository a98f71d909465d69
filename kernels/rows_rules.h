#pragma once

#include <algorithm>
#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/prefetch.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

// Loop bodies for for_each_row.
struct GatherRow {
  ConstMatrix table;
  const int32_t* ids;
  int32_t padding_id;
  Matrix out;

  struct Column {
    const float* in;  // null: a padding row
    float* out;
    SG_HD void operator()(int64_t c) const { out[c] = in == nullptr ? 0.0f : in[c]; }
  };
  SG_HD Column operator()(int64_t r) const {
    return {ids[r] == padding_id ? nullptr : table.row(ids[r]), out.row(r)};
  }
  static constexpr int64_t kStreams = 1;
  void prefetch(int64_t r, int64_t first, int64_t last) const {
    if (ids[r] != padding_id) prefetch_floats(table.row(ids[r]) + first, last - first);
  }
};

struct ScatterAddRow {
  ConstMatrix rows;
  const int32_t* ids;
  float scale;
  Matrix table;

  struct Column {
    const float* in;
    float scale;
    float* out;
    SG_HD void operator()(int64_t c) const { out[c] += scale * in[c]; }
  };
  SG_HD bool skip(int64_t r) const { return ids[r] < 0; }
  SG_HD Column operator()(int64_t r) const { return {rows.row(r), scale, table.row(ids[r])}; }
  static constexpr int64_t kStreams = 1;
  void prefetch(int64_t r, int64_t first, int64_t last) const {
    prefetch_floats(table.row(ids[r]) + first, last - first);
  }
};

// out[c] = sum of values[i] * table(columns[i], c).
struct SumEntries {
  const int32_t* columns;
  const float* values;  // null: all are 1
  int32_t count;
  ConstMatrix table;
  float* out;
  SG_HD void operator()(int64_t c) const {
    float sum = 0.0f;
    for (int32_t i = 0; i < count; ++i) {
      sum += values == nullptr ? table(columns[i], c) : values[i] * table(columns[i], c);
    }
    out[c] = sum;
  }
};

struct MultiplyCsrRow {
  CsrMatrix a;
  ConstMatrix table;
  Matrix out;
  SG_HD SumEntries operator()(int64_t r) const {
    const int32_t first = a.begin[r];
    return {a.columns + first, a.values == nullptr ? nullptr : a.values + first,
            a.begin[r + 1] - first, table, out.row(r)};
  }
};

// Conditions on entry i. Ids below `low` are above every limit once they are taken as unsigned.
struct OutOfRange {
  const int32_t* ids;
  uint32_t low;
  uint32_t size;
  static OutOfRange of(const int32_t* ids, int64_t limit, int32_t low) {
    const int64_t end = std::clamp<int64_t>(limit, low, int64_t{1} << 31);
    return {ids, static_cast<uint32_t>(low), static_cast<uint32_t>(end - low)};
  }
  SG_HD bool operator()(int64_t i) const { return static_cast<uint32_t>(ids[i]) - low >= size; }
};

struct NextNotAbove {
  const int32_t* ids;
  SG_HD bool operator()(int64_t i) const { return ids[i + 1] <= ids[i]; }
};

struct IdIs {
  const int32_t* ids;
  int32_t id;
  SG_HD bool operator()(int64_t i) const { return ids[i] == id; }
};

struct KeyedItem {
  int32_t key;
  int32_t item;
};

}  // namespace sketchgrad::kernels
