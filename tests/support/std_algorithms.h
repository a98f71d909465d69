#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

// Test support: what rows_sorting.h asks of a library, from the standard one.
namespace sketchgrad::test {

struct StdAlgorithms {
  static void sort(const uint32_t* keys, const int32_t* items, uint32_t* sorted_keys,
                   int32_t* sorted_items, int64_t count, int key_bits) {
    const uint64_t mask = (uint64_t{1} << key_bits) - 1;
    std::vector<size_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return (keys[a] & mask) < (keys[b] & mask); });
    for (size_t i = 0; i < order.size(); ++i) {
      sorted_keys[i] = keys[order[i]];
      sorted_items[i] = items[order[i]];
    }
  }
  template <class Rule>
  static void select(int64_t count, const Rule& rule, int32_t* places, int32_t* number) {
    int32_t found = 0;
    for (int32_t i = 0; i < count; ++i) {
      if (rule(i)) places[found++] = i;
    }
    *number = found;
  }
};

}  // namespace sketchgrad::test
