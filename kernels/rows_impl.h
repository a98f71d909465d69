#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/rows_rules.h"

namespace sketchgrad::kernels {

// The device bodies behind rows.h.
namespace cpu {
void gather_rows(const Exec&, ConstMatrix table, const int32_t* ids, int32_t padding_id,
                 Matrix out);
void scatter_add_rows(const Exec&, ConstMatrix rows, const int32_t* ids, float scale, Matrix table);
int64_t find_out_of_range(const Exec&, const int32_t* ids, int64_t count, int64_t limit,
                          int32_t low);
int64_t find_not_increasing(const Exec&, const int32_t* ids, int64_t count);
int64_t count_id(const Exec&, const int32_t* ids, int64_t count, int32_t id);
void copy_other_ids(const Exec&, const int32_t* ids, int64_t count, int32_t id, int32_t* other_ids,
                    int32_t* places);
Groups group_by_key(const Exec&, const int32_t* item_keys, int64_t items, int64_t key_limit,
                    int32_t* keys, int32_t* begin, int32_t* order);
void csr_matmul(const Exec&, const CsrMatrix& a, ConstMatrix table, Matrix out);
void sum_groups(const Exec&, const Groups&, ConstMatrix values, Matrix out);
}  // namespace cpu
namespace cuda {
void gather_rows(const Exec&, ConstMatrix table, const int32_t* ids, int32_t padding_id,
                 Matrix out);
void scatter_add_rows(const Exec&, ConstMatrix rows, const int32_t* ids, float scale, Matrix table);
int64_t find_out_of_range(const Exec&, const int32_t* ids, int64_t count, int64_t limit,
                          int32_t low);
int64_t find_not_increasing(const Exec&, const int32_t* ids, int64_t count);
int64_t count_id(const Exec&, const int32_t* ids, int64_t count, int32_t id);
void copy_other_ids(const Exec&, const int32_t* ids, int64_t count, int32_t id, int32_t* other_ids,
                    int32_t* places);
Groups group_by_key(const Exec&, const int32_t* item_keys, int64_t items, int64_t key_limit,
                    int32_t* keys, int32_t* begin, int32_t* order);
void csr_matmul(const Exec&, const CsrMatrix& a, ConstMatrix table, Matrix out);
void sum_groups(const Exec&, const Groups&, ConstMatrix values, Matrix out);
}  // namespace cuda

namespace impl {

template <class Policy>
void gather_rows(const Policy& policy, ConstMatrix table, const int32_t* ids, int32_t padding_id,
                 Matrix out) {
  for_each_row(policy, out.rows, out.cols, GatherRow{table, ids, padding_id, out});
}

template <class Policy>
void scatter_add_rows(const Policy& policy, ConstMatrix rows, const int32_t* ids, float scale,
                      Matrix table) {
  for_each_row(policy, rows.rows, rows.cols, ScatterAddRow{rows, ids, scale, table});
}

// The number of i in [begin, end) that `rule` holds for.
template <class Rule>
int64_t count_range(const Rule rule, int64_t begin, int64_t end) {
  int32_t found = 0;  // ranges are no longer than a block
#pragma omp simd reduction(+ : found)
  for (int64_t i = begin; i < end; ++i) found += rule(i) ? 1 : 0;
  return found;
}

// The first i in [0, count) that `rule` holds for, or -1.
template <class Policy, class Rule>
int64_t find_first(const Policy& policy, const Exec& exec, int64_t count, const Rule& rule) {
  const int64_t blocks = (count + kBlockElements - 1) / kBlockElements;
  const ScratchArray<uint8_t> found(exec, blocks, "find_first.found");
  for_each_range(policy, count, kBlockElements, [&](int64_t begin, int64_t end) {
    found[begin / kBlockElements] = count_range(rule, begin, end) > 0 ? 1 : 0;
  });
  for (int64_t b = 0; b < blocks; ++b) {
    if (found[b] == 0) continue;
    int64_t i = b * kBlockElements;
    while (!rule(i)) ++i;
    return i;
  }
  return -1;
}

template <class Policy>
int64_t find_out_of_range(const Policy& policy, const Exec& exec, const int32_t* ids, int64_t count,
                          int64_t limit, int32_t low) {
  return find_first(policy, exec, count, OutOfRange::of(ids, limit, low));
}

template <class Policy>
int64_t find_not_increasing(const Policy& policy, const Exec& exec, const int32_t* ids,
                            int64_t count) {
  const int64_t i = find_first(policy, exec, count - 1, NextNotAbove{ids});
  return i < 0 ? -1 : i + 1;
}

template <class Policy>
int64_t count_id(const Policy& policy, const Exec& exec, const int32_t* ids, int64_t count,
                 int32_t id) {
  const int64_t blocks = (count + kBlockElements - 1) / kBlockElements;
  const ScratchArray<int64_t> found(exec, blocks, "count_id.found");
  for_each_range(policy, count, kBlockElements, [&](int64_t begin, int64_t end) {
    found[begin / kBlockElements] = count_range(IdIs{ids, id}, begin, end);
  });
  int64_t total = 0;
  for (int64_t b = 0; b < blocks; ++b) total += found[b];
  return total;
}

// How the radix sort cuts its work: by the number of items and by key_limit alone.
struct RadixPlan {
  // Chunks are counted and moved in parallel; beyond this, their histograms cost more than they
  // save.
  static constexpr int64_t kMaxChunks = 64;

  RadixPlan(int64_t item_count, int64_t key_limit) : items(item_count) {
    // The fewest passes, unless clearing the histogram would take longer than another pass.
    const int max_digit_bits = items < 1024 ? 8 : 11;
    const auto largest_key = static_cast<uint64_t>(std::max<int64_t>(key_limit, 2) - 1);
    const int key_bits = std::bit_width(largest_key);
    passes = (key_bits + max_digit_bits - 1) / max_digit_bits;
    digit_bits = (key_bits + passes - 1) / passes;
    chunks = std::clamp<int64_t>(items / kBlockElements, 1, kMaxChunks);
    chunk_items = (items + chunks - 1) / chunks;
  }
  int64_t buckets() const { return int64_t{1} << digit_bits; }
  int64_t begin(int64_t chunk) const { return std::min(items, chunk * chunk_items); }
  int64_t end(int64_t chunk) const { return begin(chunk + 1); }

  int64_t items;
  int passes;
  int digit_bits;
  int64_t chunks;
  int64_t chunk_items;
};

// One stable pass: moves in[...] to out[...] in order of the digit at `shift`.
// `offset` holds chunks x buckets: first counts, then where a chunk's next item of a bucket goes.
template <class Policy>
void radix_pass(const RadixPlan& plan, int shift, const KeyedItem* in, KeyedItem* out,
                int32_t* offset) {
  const int64_t buckets = plan.buckets();
  const auto digit = [mask = buckets - 1, shift](KeyedItem item) {
    return (static_cast<int64_t>(item.key) >> shift) & mask;
  };
  Policy::for_each_block(plan.chunks, [=, &plan](int64_t chunk) {
    int32_t* count = offset + chunk * buckets;
    std::fill_n(count, buckets, 0);
    for (int64_t i = plan.begin(chunk); i < plan.end(chunk); ++i) ++count[digit(in[i])];
  });
  int32_t next = 0;
  for (int64_t bucket = 0; bucket < buckets; ++bucket) {
    for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
      next += std::exchange(offset[chunk * buckets + bucket], next);
    }
  }
  Policy::for_each_block(plan.chunks, [=, &plan](int64_t chunk) {
    int32_t* position = offset + chunk * buckets;
    for (int64_t i = plan.begin(chunk); i < plan.end(chunk); ++i) {
      out[position[digit(in[i])]++] = in[i];
    }
  });
}

// Writes order, and keys and begin of the groups that begin in each chunk of `sorted`.
template <class Policy>
Groups split_groups(const RadixPlan& plan, const KeyedItem* sorted, int32_t* first_group,
                    int32_t* keys, int32_t* begin, int32_t* order) {
  const auto starts_group = [sorted](int64_t i) {
    return i == 0 || sorted[i].key != sorted[i - 1].key;
  };
  Policy::for_each_block(plan.chunks, [=, &plan](int64_t chunk) {
    int32_t groups = 0;
    for (int64_t i = plan.begin(chunk); i < plan.end(chunk); ++i) groups += starts_group(i) ? 1 : 0;
    first_group[chunk] = groups;
  });
  int32_t groups = 0;
  for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
    groups += std::exchange(first_group[chunk], groups);
  }
  Policy::for_each_block(plan.chunks, [=, &plan](int64_t chunk) {
    int32_t group = first_group[chunk];
    for (int64_t i = plan.begin(chunk); i < plan.end(chunk); ++i) {
      order[i] = sorted[i].item;
      if (!starts_group(i)) continue;
      keys[group] = sorted[i].key;
      begin[group++] = static_cast<int32_t>(i);
    }
  });
  begin[groups] = static_cast<int32_t>(plan.items);
  return {groups, keys, begin, order};
}

template <class Policy>
Groups group_by_key(const Policy& policy, const Exec& exec, const int32_t* item_keys, int64_t items,
                    int64_t key_limit, int32_t* keys, int32_t* begin, int32_t* order) {
  const RadixPlan plan(items, key_limit);
  const ScratchArray<KeyedItem> buffer(exec, 2 * items, "group_by_key.items", ScratchKind::indices);
  const ScratchArray<int32_t> offset(exec, plan.chunks * plan.buckets(), "group_by_key.offset",
                                     ScratchKind::indices);
  KeyedItem* from = buffer.data();
  KeyedItem* to = from + items;
  for_each_range(policy, items, kBlockElements, [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) from[i] = {item_keys[i], static_cast<int32_t>(i)};
  });
  for (int pass = 0; pass < plan.passes; ++pass) {
    radix_pass<Policy>(plan, pass * plan.digit_bits, from, to, offset.data());
    std::swap(from, to);
  }
  return split_groups<Policy>(plan, from, offset.data(), keys, begin, order);
}

// A row with more values to add than this is cut into tiles of columns that are summed in parallel.
inline constexpr int64_t kLargeSumElements = 16 * kBlockElements;
inline constexpr int64_t kSumTileCols = 128;

// out = the sum of value * table(column, :) over the entries [begin, end). Behind them stand those
// that are read next, up to `limit`.
template <bool kValues>
void sum_entries(const CsrMatrix& a, int64_t begin, int64_t end, int64_t limit, ConstMatrix table,
                 float* out) {
  const int64_t ahead = prefetch_rows(table.cols, 1);
  if (begin == end) std::fill_n(out, table.cols, 0.0f);
  for (int64_t i = begin; i < end; ++i) {
    if (i + ahead < limit) prefetch_floats(table.row(a.columns[i + ahead]), table.cols);
    const float* row = table.row(a.columns[i]);
    const float value = kValues ? a.values[i] : 1.0f;
    if (i == begin) {
#pragma omp simd
      for (int64_t c = 0; c < table.cols; ++c) out[c] = kValues ? value * row[c] : row[c];
    } else {
#pragma omp simd
      for (int64_t c = 0; c < table.cols; ++c) out[c] += kValues ? value * row[c] : row[c];
    }
  }
}

template <class Policy>
void multiply_row(const Policy& policy, const CsrMatrix& a, int64_t r, ConstMatrix table,
                  Matrix out) {
  const int64_t first = a.begin[r], last = a.begin[r + 1];
  const bool large = (last - first) * table.cols > kLargeSumElements;
  const int64_t tile = large ? kSumTileCols : table.cols;
  for_each_range(policy, table.cols, tile, [&](int64_t begin, int64_t end) {
    const auto sum = a.values == nullptr ? sum_entries<false> : sum_entries<true>;
    sum(a, first, last, a.begin[a.rows], table.columns(begin, end - begin), out.row(r) + begin);
  });
}

// Cut by entries, not by rows: a task takes the rows that begin among its entries, so that rows of
// any length spread evenly. Rows that begin behind the last entry are empty, and the last task's.
template <class Policy>
void csr_matmul(const Policy& policy, const CsrMatrix& a, ConstMatrix table, Matrix out) {
  if (a.rows == 0 || table.cols == 0) return;
  const int64_t entries = a.begin[a.rows];
  const auto first_row_from = [&](int64_t entry) {
    return entry >= entries ? a.rows : std::lower_bound(a.begin, a.begin + a.rows, entry) - a.begin;
  };
  const auto multiply_rows = [&](int64_t begin, int64_t end) {
    const int64_t last = first_row_from(end);
    for (int64_t r = first_row_from(begin); r < last; ++r) multiply_row(policy, a, r, table, out);
  };
  if (entries == 0) {
    for (int64_t r = 0; r < a.rows; ++r) std::fill_n(out.row(r), table.cols, 0.0f);
  }
  for_each_range(policy, entries, kBlockElements / table.cols, multiply_rows);
}

template <class Policy>
void sum_groups(const Policy& policy, const Groups& groups, ConstMatrix values, Matrix out) {
  csr_matmul(policy, {groups.count, groups.begin, groups.order}, values, out);
}

}  // namespace impl
}  // namespace sketchgrad::kernels
