#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/rows_rules.h"
#include "sketchgrad/kernels/views.h"

// What the GPU needs around its sort (rows_cuda.cu), and its sums of groups.
namespace sketchgrad::kernels {

// The place of an entry that `rule` holds for, above all others for the rest.
template <class Rule>
struct PlaceWhere {
  Rule rule;
  SG_HD int64_t operator()(int64_t i) const { return rule(i) ? i : INT64_MAX; }
};
struct Smaller {
  SG_HD int64_t operator()(int64_t a, int64_t b) const { return a < b ? a : b; }
};
template <class Rule>
struct CountWhere {
  Rule rule;
  SG_HD int64_t operator()(int64_t i) const { return rule(i) ? 1 : 0; }
};

// Before the sort: keys below 0 come behind all others.
struct SortedKeyOf {
  const int32_t* item_keys;
  uint32_t behind;  // key_limit
  uint32_t* keys;
  int32_t* items;
  SG_HD void operator()(int64_t i) const {
    keys[i] = item_keys[i] < 0 ? behind : static_cast<uint32_t>(item_keys[i]);
    items[i] = static_cast<int32_t>(i);
  }
};

// Of sorted keys.
struct StartsGroup {
  const uint32_t* keys;
  SG_HD bool operator()(int32_t i) const { return i == 0 || keys[i] != keys[i - 1]; }
};

// Completes groups [0, items], of which `begin` holds the first *count.
struct FinishGroup {
  const uint32_t* sorted_keys;
  uint32_t behind;
  const int32_t* count;  // null for none
  int64_t items;
  int32_t* keys;
  int32_t* begin;
  SG_HD void operator()(int64_t g) const {
    if (count != nullptr && g < *count) {
      const uint32_t key = sorted_keys[begin[g]];
      keys[g] = key == behind ? -1 : static_cast<int32_t>(key);
      return;
    }
    if (g < items) keys[g] = -1;
    begin[g] = static_cast<int32_t>(items);
  }
};

// group_by_key by somebody else's algorithms:
//   algorithms.sort(keys, items, sorted_keys, sorted_items, count, key_bits): pairs by key, stable;
//   algorithms.select(count, rule, places, number): the i in [0, count) that rule(i) holds for, in
//   their order, and how many they are.
template <class Policy, class Algorithms>
Groups group_by_sorting(const Policy& policy, const Exec& exec, const Algorithms& algorithms,
                        const int32_t* item_keys, int64_t items, int64_t key_limit, int32_t* keys,
                        int32_t* begin, int32_t* order) {
  const auto behind = static_cast<uint32_t>(std::max<int64_t>(key_limit, 0));
  const ScratchArray<uint32_t> unsorted(exec, items, "group_by_key.keys", ScratchKind::indices);
  const ScratchArray<uint32_t> sorted(exec, items, "group_by_key.sorted", ScratchKind::indices);
  const ScratchArray<int32_t> item(exec, items, "group_by_key.items", ScratchKind::indices);
  const ScratchArray<int32_t> count(exec, 1, "group_by_key.count", ScratchKind::indices);
  if (items > 0) {
    for_each(policy, items, SortedKeyOf{item_keys, behind, unsorted.data(), item.data()});
    algorithms.sort(unsorted.data(), item.data(), sorted.data(), order, items,
                    static_cast<int>(std::bit_width(behind)));
    algorithms.select(items, StartsGroup{sorted.data()}, begin, count.data());
  }
  for_each(
      policy, items + 1,
      FinishGroup{sorted.data(), behind, items > 0 ? count.data() : nullptr, items, keys, begin});
  return {items, keys, begin, order};
}

// The chosen places, of which there are *count, and the ids there.
struct CopyChosen {
  const int32_t* ids;
  const int32_t* chosen;
  const int32_t* count;
  int32_t* other_ids;
  int32_t* places;
  SG_HD void operator()(int64_t i) const {
    if (i >= *count) return;
    other_ids[i] = ids[chosen[i]];
    places[i] = chosen[i];
  }
};

// The first i in [0, count) that `rule` holds for, or -1. to_host(count, map, combine, neutral)
// reduces on the device and returns the result to the host.
template <class ToHost, class Rule>
int64_t find_first_by_reducing(const ToHost& to_host, int64_t count, const Rule& rule) {
  if (count <= 0) return -1;
  const int64_t place = to_host(count, PlaceWhere<Rule>{rule}, Smaller{}, int64_t{INT64_MAX});
  return place == INT64_MAX ? -1 : place;
}

struct IdIsNot {
  IdIs rule;
  SG_HD bool operator()(int32_t i) const { return !rule(i); }
};

// copy_other_ids by somebody else's selection.
template <class Policy, class Algorithms>
void copy_other_ids_by_selecting(const Policy& policy, const Exec& exec,
                                 const Algorithms& algorithms, const int32_t* ids, int64_t count,
                                 int32_t id, int32_t* other_ids, int32_t* places) {
  if (count == 0) return;
  // As many places as ids, since the selection may only write where there is room for all.
  const ScratchArray<int32_t> chosen(exec, count, "copy_other_ids.chosen", ScratchKind::indices);
  const ScratchArray<int32_t> number(exec, 1, "copy_other_ids.count", ScratchKind::indices);
  algorithms.select(count, IdIsNot{{ids, id}}, chosen.data(), number.data());
  for_each(policy, count, CopyChosen{ids, chosen.data(), number.data(), other_ids, places});
}

// For for_each_row over groups and columns.
struct SumGroup {
  Groups groups;
  ConstMatrix values;
  Matrix out;
  SG_HD SumEntries operator()(int64_t g) const {
    const int32_t first = groups.begin[g];
    const int32_t count = groups.keys[g] < 0 ? 0 : groups.begin[g + 1] - first;
    return {groups.order + first, nullptr, count, values, out.row(g)};
  }
};

}  // namespace sketchgrad::kernels
