#include "sketchgrad/kernels/rows.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/rows_impl.h"
#include "sketchgrad/kernels/rows_sorting.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/support/std_algorithms.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;
using namespace sketchgrad::test;

namespace {

constexpr int64_t kDims[] = {1, 7, 33};

struct OwnedGroups {
  explicit OwnedGroups(size_t items) : keys(items), begin(items + 1), order(items) {}
  std::vector<int32_t> keys, begin, order;
  Groups groups;
};

template <class Policy>
OwnedGroups grouped(const std::vector<int32_t>& item_keys, int64_t key_limit) {
  OwnedGroups out(item_keys.size());
  out.groups = impl::group_by_key(Policy{}, cpu_exec(), item_keys.data(),
                                  static_cast<int64_t>(item_keys.size()), key_limit,
                                  out.keys.data(), out.begin.data(), out.order.data());
  return out;
}

void check_groups(const std::vector<int32_t>& item_keys, const Groups& groups) {
  std::map<int32_t, std::vector<int32_t>> expected;
  for (size_t i = 0; i < item_keys.size(); ++i) {
    expected[item_keys[i]].push_back(static_cast<int32_t>(i));
  }
  REQUIRE(groups.count == static_cast<int64_t>(expected.size()));
  CHECK(groups.begin[0] == 0);
  CHECK(groups.begin[groups.count] == static_cast<int32_t>(item_keys.size()));
  int64_t g = 0;
  bool right = true;
  for (const auto& [key, items] : expected) {
    right = right && groups.keys[g] == key &&
            std::equal(items.begin(), items.end(), groups.order + groups.begin[g],
                       groups.order + groups.begin[g + 1]);
    ++g;
  }
  CHECK(right);
}

// Most items have one key, the others are spread.
std::vector<int32_t> unequal_keys(int64_t items, int64_t key_limit) {
  std::vector<int32_t> keys = random_ids(items, key_limit, 11);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (i % 10 != 0) keys[i] = static_cast<int32_t>(key_limit / 2);
  }
  return keys;
}

std::vector<float> group_sums(const Groups& groups, ConstMatrix values) {
  std::vector<float> out(static_cast<size_t>(groups.count * values.cols));
  sum_groups(cpu_exec(), groups, values, contiguous(out.data(), groups.count, values.cols));
  return out;
}

}  // namespace

TEST_CASE("rows: gather, with and without padding") {
  const Exec exec = cpu_exec();
  const int64_t vocabulary = 50;
  for (const int64_t dim : kDims) {
    for (const int64_t count : {0, 1, 700}) {
      for (const int32_t padding_id : {-1, 3}) {
        CAPTURE(dim);
        CAPTURE(count);
        CAPTURE(padding_id);
        const int64_t stride = dim + 5;
        const std::vector<float> table = random_floats(vocabulary * stride, 1);
        const std::vector<int32_t> ids = random_ids(count, vocabulary, 2);
        std::vector<float> out(static_cast<size_t>(count * (dim + 2)), 9.0f);
        gather_rows(exec, {table.data(), vocabulary, dim, stride}, ids.data(), padding_id,
                    {out.data(), count, dim, dim + 2});
        CHECK(largest_error(out, [&](size_t i) {
                const auto row = static_cast<int64_t>(i) / (dim + 2);
                const auto col = static_cast<int64_t>(i) % (dim + 2);
                if (col >= dim) return 9.0;
                const int32_t id = ids[static_cast<size_t>(row)];
                return id == padding_id ? 0.0
                                        : double{table[static_cast<size_t>(id * stride + col)]};
              }) == 0.0);
      }
    }
  }
}

TEST_CASE("rows: padding may lie outside the table") {
  const std::vector<int32_t> ids = {7, 7};
  std::vector<float> out(6, 1.0f);
  gather_rows(cpu_exec(), {nullptr, 0, 3, 3}, ids.data(), 7, contiguous(out.data(), 2, 3));
  CHECK(out == std::vector<float>(6, 0.0f));
}

TEST_CASE("rows: ids may begin below zero") {
  const Exec exec = cpu_exec();
  const std::vector<int32_t> ids = {0, -1, 4, -2, 5};
  CHECK(find_out_of_range(exec, ids.data(), 5, 5, -1) == 3);
  CHECK(find_out_of_range(exec, ids.data(), 5, 5, -2) == 4);
  CHECK(find_out_of_range(exec, ids.data(), 5, int64_t{1} << 40, -2) == -1);
  CHECK(find_out_of_range(exec, ids.data(), 5, -5, -1) == 0);
}

TEST_CASE("rows: the first id that does not increase is found") {
  const Exec exec = cpu_exec();
  for (const int64_t count : {int64_t{0}, int64_t{1}, 3 * kBlockElements + 5}) {
    std::vector<int32_t> ids(static_cast<size_t>(count));
    std::iota(ids.begin(), ids.end(), -2);
    CHECK(find_not_increasing(exec, ids.data(), count) == -1);
    // Within a block, on both sides of a border, and at the end.
    for (const int64_t place :
         {int64_t{1}, kBlockElements - 1, kBlockElements, kBlockElements + 1, count - 1}) {
      if (place < 1 || place >= count) continue;
      std::vector<int32_t> broken = ids;
      broken[static_cast<size_t>(place)] = broken[static_cast<size_t>(place - 1)];
      CHECK(find_not_increasing(exec, broken.data(), count) == place);
    }
  }
}

TEST_CASE("rows: an id is counted, and the others copied") {
  const Exec exec = cpu_exec();
  for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{33}, 3 * kBlockElements + 5}) {
    const std::vector<int32_t> ids = random_ids(count, 4, 7);
    const int64_t expected = std::count(ids.begin(), ids.end(), 3);
    CHECK(count_id(exec, ids.data(), count, 3) == expected);
    std::vector<int32_t> others(static_cast<size_t>(count - expected)), places(others.size());
    copy_other_ids(exec, ids.data(), count, 3, others.data(), places.data());
    bool right = std::is_sorted(places.begin(), places.end());
    for (size_t i = 0; i < others.size(); ++i) {
      right &= others[i] != 3 && others[i] == ids[static_cast<size_t>(places[i])];
    }
    CHECK(right);
  }
}

TEST_CASE("rows: scatter adds scaled rows and touches no others") {
  const Exec exec = cpu_exec();
  const int64_t vocabulary = 900;
  for (const int64_t dim : kDims) {
    for (const int64_t count : {0, 1, 600}) {
      CAPTURE(dim);
      CAPTURE(count);
      std::vector<int32_t> ids(vocabulary);
      std::iota(ids.begin(), ids.end(), 0);
      std::shuffle(ids.begin(), ids.end(), std::mt19937(3));
      const std::vector<float> rows = random_floats(count * dim, 4);
      const std::vector<float> before = random_floats(vocabulary * dim, 5);
      std::vector<float> table = before;
      scatter_add_rows(exec, contiguous(rows.data(), count, dim), ids.data(), -0.5f,
                       contiguous(table.data(), vocabulary, dim));
      std::vector<double> expected(before.begin(), before.end());
      for (int64_t i = 0; i < count * dim; ++i) {
        const int64_t row = ids[static_cast<size_t>(i / dim)];
        expected[static_cast<size_t>(row * dim + i % dim)] -= 0.5 * rows[static_cast<size_t>(i)];
      }
      CHECK(largest_error(table, [&](size_t i) { return expected[i]; }) < 1e-7);
    }
  }
}

TEST_CASE("rows: the first id out of range is found") {
  const Exec exec = cpu_exec();
  const int64_t count = 5 * kBlockElements + 3;
  std::vector<int32_t> ids = random_ids(count, 100, 6);
  CHECK(find_out_of_range(exec, ids.data(), 0, 100) == -1);
  CHECK(find_out_of_range(exec, ids.data(), count, 100) == -1);
  CHECK(find_out_of_range(exec, ids.data(), count, 0) == 0);
  CHECK(find_out_of_range(exec, ids.data(), count, -5) == 0);
  CHECK(find_out_of_range(exec, ids.data(), count, int64_t{1} << 40) == -1);
  ids.back() = 100;
  CHECK(find_out_of_range(exec, ids.data(), count, 100) == count - 1);
  ids[3 * kBlockElements + 9] = -1;
  CHECK(find_out_of_range(exec, ids.data(), count, int64_t{1} << 40) == 3 * kBlockElements + 9);
  ids[3 * kBlockElements + 2] = INT32_MAX;
  CHECK(find_out_of_range(exec, ids.data(), count, 100) == 3 * kBlockElements + 2);
}

TEST_CASE_TEMPLATE("rows: groups are those of a stable sort", Policy, SerialPolicy, TbbPolicy) {
  for (const int64_t items :
       {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{33}, int64_t{5000}, 3 * kBlockElements + 17}) {
    for (const int64_t key_limit : {int64_t{1}, int64_t{2}, int64_t{33}, int64_t{2048},
                                    int64_t{2049}, int64_t{5'000'000}, int64_t{1} << 31}) {
      CAPTURE(items);
      CAPTURE(key_limit);
      const std::vector<int32_t> keys = random_ids(items, key_limit, 7);
      check_groups(keys, grouped<Policy>(keys, key_limit).groups);
    }
  }
}

TEST_CASE("rows: the largest key, keys in order and one key only") {
  const std::vector<int32_t> largest = {INT32_MAX, 0, INT32_MAX, 5};
  check_groups(largest, grouped<TbbPolicy>(largest, int64_t{1} << 31).groups);
  std::vector<int32_t> ordered(70000);
  std::iota(ordered.begin(), ordered.end(), 0);
  check_groups(ordered, grouped<TbbPolicy>(ordered, 70000).groups);
  std::reverse(ordered.begin(), ordered.end());
  check_groups(ordered, grouped<TbbPolicy>(ordered, 70000).groups);
  const std::vector<int32_t> same(70000, 41);
  check_groups(same, grouped<TbbPolicy>(same, 42).groups);
}

TEST_CASE("rows: grouping gives the same order with any number of threads") {
  const std::vector<int32_t> keys = unequal_keys(10 * kBlockElements + 3, 30000);
  const auto order = [&] { return grouped<TbbPolicy>(keys, 30000).order; };
  const std::vector<int32_t> expected = grouped<SerialPolicy>(keys, 30000).order;
  CHECK(with_threads(1, order) == expected);
  CHECK(with_threads(2, order) == expected);
}

TEST_CASE("rows: group sums add the items in order, bit for bit") {
  for (const int64_t dim : {1, 7, 33, 300}) {
    for (const int64_t items : {0, 1, 33, 9000}) {
      for (const int64_t key_limit : {1, 700}) {
        CAPTURE(dim);
        CAPTURE(items);
        CAPTURE(key_limit);
        const std::vector<int32_t> keys = unequal_keys(items, key_limit);
        const OwnedGroups owned = grouped<TbbPolicy>(keys, key_limit);
        const Groups& groups = owned.groups;
        const std::vector<float> values = random_floats(items * (dim + 1), 8);
        const ConstMatrix matrix{values.data(), items, dim, dim + 1};
        std::vector<float> expected(static_cast<size_t>(groups.count * dim));
        std::vector<double> exact(expected.size());
        for (int64_t g = 0; g < groups.count; ++g) {
          for (int32_t i = groups.begin[g]; i < groups.begin[g + 1]; ++i) {
            for (int64_t c = 0; c < dim; ++c) {
              expected[static_cast<size_t>(g * dim + c)] += matrix(groups.order[i], c);
              exact[static_cast<size_t>(g * dim + c)] += matrix(groups.order[i], c);
            }
          }
        }
        const auto sums = [&] { return group_sums(groups, matrix); };
        CHECK(with_threads(1, sums) == expected);
        CHECK(with_threads(2, sums) == expected);
        CHECK(largest_error(expected, [&](size_t i) { return exact[i]; }) < 1e-3);
      }
    }
  }
}

// ---- What the GPU does around a sort that is not ours

TEST_CASE("rows: groups by sorting are those of the CPU, with empty ones behind") {
  for (const int64_t items : {0, 1, 33, 5000}) {
    for (const int64_t key_limit : {int64_t{1}, int64_t{32}, int64_t{700}, int64_t{1} << 31}) {
      for (const bool with_padding : {false, true}) {
        CAPTURE(items);
        CAPTURE(key_limit);
        std::vector<int32_t> item_keys = random_ids(items, key_limit, 7);
        for (size_t i = 0; i < item_keys.size(); ++i) {
          if (with_padding && i % 3 == 1) item_keys[i] = -1;
        }
        std::vector<int32_t> keys(item_keys.size()), begin(keys.size() + 1), order(keys.size());
        const Groups groups =
            group_by_sorting(SerialPolicy{}, cpu_exec(), StdAlgorithms{}, item_keys.data(), items,
                             key_limit, keys.data(), begin.data(), order.data());
        CHECK(groups.count == items);
        CHECK(begin.back() == items);
        // The keys that occur, each with its items in their order.
        std::map<int32_t, std::vector<int32_t>> expected;
        for (size_t i = 0; i < item_keys.size(); ++i) {
          if (item_keys[i] >= 0) expected[item_keys[i]].push_back(static_cast<int32_t>(i));
        }
        size_t g = 0;
        for (const auto& [key, members] : expected) {
          CHECK(keys[g] == key);
          CHECK(std::vector<int32_t>(order.begin() + begin[g], order.begin() + begin[g + 1]) ==
                members);
          ++g;
        }
        for (; g < keys.size(); ++g) CHECK(keys[g] == -1);

        const std::vector<float> values = random_floats(items * 5, 8);
        std::vector<float> sums(values.size(), -9.0f);
        for_each_row(SerialPolicy{}, items, 5,
                     SumGroup{groups, {values.data(), items, 5, 5}, {sums.data(), items, 5, 5}});
        for (size_t group = 0; group < keys.size(); ++group) {
          for (size_t c = 0; c < 5; ++c) {
            float sum = 0.0f;
            if (keys[group] >= 0) {
              for (const int32_t item : expected[keys[group]]) {
                sum += values[static_cast<size_t>(item) * 5 + c];
              }
            }
            REQUIRE(sums[group * 5 + c] == sum);
          }
        }
      }
    }
  }
}

TEST_CASE("rows: a sparse matrix times a table") {
  const int64_t table_rows = 50;
  // Empty rows at the beginning, inside and at the end; one row with nearly all entries, which is
  // cut by columns where D is large.
  for (const int64_t dim : {1, 7, 33, 1024}) {
    for (const std::vector<int32_t>& lengths :
         {std::vector<int32_t>{}, {0, 0}, {0, 3, 0, 0, 1, 400, 2, 0, 0}}) {
      for (const bool weighted : {false, true}) {
        CAPTURE(dim);
        CAPTURE(lengths.size());
        CAPTURE(weighted);
        std::vector<int32_t> begin{0};
        for (const int32_t length : lengths) begin.push_back(begin.back() + length);
        const std::vector<int32_t> columns = random_ids(begin.back(), table_rows, 3);
        const std::vector<float> values = random_floats(begin.back(), 4);
        const CsrMatrix a{static_cast<int64_t>(lengths.size()), begin.data(), columns.data(),
                          weighted ? values.data() : nullptr};
        const int64_t stride = dim + 5;
        const std::vector<float> table = random_floats(table_rows * stride, 1);
        const ConstMatrix view{table.data(), table_rows, dim, stride};
        const auto product = [&](const auto& multiply) {
          std::vector<float> out(lengths.size() * static_cast<size_t>(dim), 9.0f);
          multiply(contiguous(out.data(), a.rows, dim));
          return out;
        };
        const std::vector<float> out =
            product([&](Matrix to) { csr_matmul(cpu_exec(), a, view, to); });
        CHECK(largest_error(out, [&](size_t i) {
                const auto r = i / static_cast<size_t>(dim);
                double sum = 0;
                for (int32_t e = begin[r]; e < begin[r + 1]; ++e) {
                  const double value = weighted ? double{values[static_cast<size_t>(e)]} : 1.0;
                  sum += value * double{view(columns[static_cast<size_t>(e)],
                                             static_cast<int64_t>(i) % dim)};
                }
                return sum;
              }) < 3e-5);
        CHECK(same_bits(
            out, product([&](Matrix to) { impl::csr_matmul(SerialPolicy{}, a, view, to); })));
        CHECK(same_bits(out, product([&](Matrix to) {
                          with_threads(3, [&] {
                            csr_matmul(cpu_exec(), a, view, to);
                            return 0;
                          });
                        })));
        const std::vector<float> by_elements = product([&](Matrix to) {
          for_each_row(SerialPolicy{}, a.rows, dim, MultiplyCsrRow{a, view, to});
        });
        CHECK(largest_error(by_elements, [&](size_t i) { return double{out[i]}; }) < 1e-5);
      }
    }
  }
}

TEST_CASE("rows: entries with an id below zero are left out of a scatter") {
  std::vector<float> table(6, 1.0f);
  const std::vector<float> rows{1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> ids{2, -1, 0};
  scatter_add_rows(cpu_exec(), {rows.data(), 3, 2, 2}, ids.data(), 2.0f, {table.data(), 3, 2, 2});
  CHECK(table == std::vector<float>{11, 13, 1, 1, 3, 5});
}

TEST_CASE("rows: what cannot be right is refused") {
  const Exec exec = cpu_exec();
  float value[8] = {};
  int32_t id[8] = {};
  CHECK_THROWS_WITH_AS(gather_rows(exec, {value, 2, 3, 3}, id, -1, {value, 2, 2, 2}),
                       "[gather_rows] table [2, 3] and out [2, 2] must have the same number of "
                       "columns",
                       InvalidArgument);
  CHECK_THROWS_AS(gather_rows(exec, {value, 2, 2, 2}, nullptr, -1, {value, 2, 2, 2}),
                  InvalidArgument);
  CHECK_THROWS_WITH_AS(scatter_add_rows(exec, {value, 3, 1, 1}, id, 1, {value, 2, 1, 1}),
                       "[scatter_add_rows] 3 distinct rows do not fit a table of 2",
                       InvalidArgument);
  CHECK_THROWS_AS(find_out_of_range(exec, nullptr, 2, 5), InvalidArgument);
  CHECK_THROWS_AS(find_out_of_range(exec, id, -2, 5), InvalidArgument);
  CHECK_THROWS_AS(find_out_of_range(exec, id, 2, 5, 1), InvalidArgument);
  CHECK_THROWS_AS(find_not_increasing(exec, nullptr, 2), InvalidArgument);
  CHECK_THROWS_AS(count_id(exec, id, -2, 5), InvalidArgument);
  CHECK_THROWS_AS(copy_other_ids(exec, nullptr, 2, 5, id, id), InvalidArgument);
  CHECK_THROWS_WITH_AS(group_by_key(exec, id, 2, 0, id, id, id),
                       "[group_by_key] key_limit 0 is outside [1, 2^31]", InvalidArgument);
  CHECK_THROWS_AS(group_by_key(exec, id, int64_t{1} << 31, 5, id, id, id), InvalidArgument);
  CHECK_THROWS_AS(group_by_key(exec, id, 0, 5, id, nullptr, id), InvalidArgument);
  CHECK_THROWS_WITH_AS(csr_matmul(exec, {2, id, id}, {value, 2, 1, 1}, {value, 1, 1, 1}),
                       "[csr_matmul] out has 1 rows for 2 of a", InvalidArgument);
  CHECK_THROWS_AS(csr_matmul(exec, {2, nullptr, id}, {value, 2, 1, 1}, {value, 2, 1, 1}),
                  InvalidArgument);
  const Groups groups{2, id, id, id};
  CHECK_THROWS_WITH_AS(sum_groups(exec, groups, {value, 2, 1, 1}, {value, 1, 1, 1}),
                       "[sum_groups] out has 1 rows for 2 groups", InvalidArgument);
}
