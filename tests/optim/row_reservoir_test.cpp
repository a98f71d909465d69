#include "sketchgrad/optim/row_reservoir.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/kernels/philox.h"
#include "sketchgrad/tests/support/memory_log.h"

namespace sketchgrad::test {
namespace {

std::set<int32_t> rows_of(const RowReservoir& reservoir) {
  std::set<int32_t> rows;
  for (int64_t slot = 0; slot < reservoir.size(); ++slot) rows.insert(reservoir.row(slot));
  return rows;
}

// The `most` rows of least hash, sorted out one by one.
std::set<int32_t> least(std::set<int32_t> rows, int64_t most, uint64_t seed) {
  const auto hash = [&](int32_t row) {
    const kernels::Philox4 bits = kernels::philox(seed, 0, static_cast<uint64_t>(row));
    return std::pair(bits.v[0], bits.v[1]);
  };
  while (static_cast<int64_t>(rows.size()) > most) {
    rows.erase(*std::max_element(rows.begin(), rows.end(),
                                 [&](int32_t a, int32_t b) { return hash(a) < hash(b); }));
  }
  return rows;
}

std::vector<int32_t> draw(std::mt19937& random, int32_t table_rows, size_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(table_rows));
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), random);
  ids.resize(count);
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST_CASE("reservoir: the rows of least hash among all that were offered, whatever the steps") {
  constexpr int32_t kRows = 700;
  std::mt19937 random(1);
  for (const int64_t capacity : {1, 7, 33, 300, 700, 1000}) {
    CAPTURE(capacity);
    const uint64_t seed = 5 + static_cast<uint64_t>(capacity);
    RowReservoir reservoir("r", capacity, kRows, seed);
    CHECK(reservoir.capacity() == std::min<int64_t>(capacity, kRows));
    std::set<int32_t> offered, seen, gone;
    std::map<int32_t, int64_t> slots;
    for (const size_t count : {0, 1, 33, 400, 0, 2, 600, 257}) {
      const std::vector<int32_t> ids = draw(random, kRows, count);
      const std::set<int32_t> before = rows_of(reservoir);
      reservoir.offer(ids.data(), std::ssize(ids));
      const std::set<int32_t> after = rows_of(reservoir);
      for (const int32_t row : before) {
        if (!after.contains(row)) gone.insert(row);
      }
      for (int64_t slot = 0; slot < reservoir.size(); ++slot) {
        const int32_t row = reservoir.row(slot);
        // Where it stands, and that it came in when it was active for the first time.
        const int32_t entry = reservoir.entry(slot);
        const bool active = std::binary_search(ids.begin(), ids.end(), row);
        CHECK((entry >= 0) == active);
        if (active) CHECK(ids[static_cast<size_t>(entry)] == row);
        CHECK(reservoir.admitted(slot) == !before.contains(row));
        if (reservoir.admitted(slot)) {
          CHECK_FALSE(offered.contains(row));
        } else {
          CHECK(slots.at(row) == slot);
        }
        CHECK_FALSE(gone.contains(row));
        slots[row] = slot;
      }
      offered.insert(ids.begin(), ids.end());
      CHECK(after == least(offered, capacity, seed));
    }
    // All rows at once; then nothing comes in any more, and places are the rows' own.
    for (int again = 0; again < 2; ++again) {
      reservoir.offer(nullptr, kRows);
      for (int32_t row = 0; row < kRows; ++row) offered.insert(row);
      CHECK(rows_of(reservoir) == least(offered, capacity, seed));
      for (int64_t slot = 0; slot < reservoir.size(); ++slot) {
        CHECK(reservoir.entry(slot) == reservoir.row(slot));
        if (again == 1) CHECK_FALSE(reservoir.admitted(slot));
      }
    }
  }
}

TEST_CASE("reservoir: entries of no row, and ids in any order") {
  RowReservoir reservoir("r", 4, 50, 1), same("r", 4, 50, 1);
  const std::vector<int32_t> ids{-1, 30, 7, -1, 12};
  reservoir.offer(ids.data(), std::ssize(ids));
  CHECK(rows_of(reservoir) == std::set<int32_t>{7, 12, 30});
  const std::vector<int32_t> sorted{7, 12, 30};
  same.offer(sorted.data(), std::ssize(sorted));
  CHECK(rows_of(same) == rows_of(reservoir));
}

TEST_CASE(
    "reservoir: a uniform sample of the distinct active rows, however often they are active") {
  constexpr int32_t kRows = 60;
  constexpr int64_t kCapacity = 9;
  constexpr int kSeeds = 4000;
  // Row 3 i is active, the first ones in every step.
  constexpr int32_t kActive = kRows / 3;
  std::vector<double> counts(kActive);
  for (int seed = 0; seed < kSeeds; ++seed) {
    RowReservoir reservoir("r", kCapacity, kRows, static_cast<uint64_t>(seed));
    for (int32_t step = 0; step < 10; ++step) {
      std::vector<int32_t> ids{0, 3, 6};
      if (step > 0) ids.push_back(3 * (step + 2));
      if (step == 9) {
        for (int32_t i = 12; i < kActive; ++i) ids.push_back(3 * i);
      }
      reservoir.offer(ids.data(), std::ssize(ids));
    }
    for (const int32_t row : rows_of(reservoir)) counts[static_cast<size_t>(row / 3)] += 1;
  }
  // Of a sample without replacement: squares over the variance of one count, kActive - 1 degrees.
  const double share = static_cast<double>(kCapacity) / kActive;
  const double variance = kSeeds * share * (1 - share) * kActive / (kActive - 1.0);
  double chi_square = 0;
  for (const double count : counts) chi_square += std::pow(count - kSeeds * share, 2) / variance;
  CHECK(chi_square < 43.8);  // 0.999 of 19 degrees
  CHECK(chi_square > 5.4);   // 0.001
}

TEST_CASE("reservoir: its bytes, and none in a step") {
  const auto index = [] { return allocator().current()[Category::index]; };
  const int64_t before = index();
  RowReservoir reservoir("r", 33, 1000, 1);
  CHECK(index() - before == 33 * 21);
  CHECK(reservoir.bytes() == 33 * 21);
  const test::MemoryLog log(allocator());
  reservoir.offer(nullptr, 1000);
  CHECK(log.events().empty());
}

TEST_CASE("reservoir: saved and loaded it goes on, and what cannot be one is refused") {
  std::mt19937 random(3);
  RowReservoir reservoir("r", 7, 100, 1);
  const std::vector<int32_t> some = draw(random, 100, 30), more = draw(random, 100, 50);
  const auto loaded = [&](const StateDict& state, int64_t capacity, uint64_t seed) {
    RowReservoir other("r", capacity, 100, seed);
    other.load(state, "a.");
    return other;
  };
  const auto saved = [](const RowReservoir& of) {
    StateDict state;
    of.save(state, "a.");
    state.tensors["a.rows"] = state.tensors["a.rows"].clone({Category::workspace, "test"});
    return state;
  };
  StateDict half = saved(reservoir);  // empty
  CHECK(loaded(half, 7, 1).size() == 0);
  reservoir.offer(some.data(), 3);
  CHECK(rows_of(loaded(saved(reservoir), 7, 1)) == rows_of(reservoir));
  reservoir.offer(some.data(), std::ssize(some));
  RowReservoir other = loaded(saved(reservoir), 7, /*seed=*/2);  // the saved seed holds
  CHECK(rows_of(other) == rows_of(reservoir));
  other.offer(more.data(), std::ssize(more));
  reservoir.offer(more.data(), std::ssize(more));
  for (int64_t slot = 0; slot < 7; ++slot) {
    CHECK(other.row(slot) == reservoir.row(slot));
    CHECK(other.entry(slot) == reservoir.entry(slot));
  }
  const StateDict whole = saved(reservoir);
  CHECK_THROWS_WITH_AS(loaded(whole, 8, 1), doctest::Contains("7 rows, here there are 8"),
                       InvalidArgument);
  StateDict broken = saved(reservoir);
  broken.set_integer("a.size", 8);
  CHECK_THROWS_WITH_AS(loaded(broken, 7, 1), doctest::Contains("8 of 7"), DataError);
  broken = saved(reservoir);
  broken.tensors["a.rows"].data<int32_t>()[2] = 100;
  CHECK_THROWS_WITH_AS(loaded(broken, 7, 1), doctest::Contains("row 100 of 100"), DataError);
  broken.tensors["a.rows"].data<int32_t>()[2] = broken.tensors["a.rows"].data<int32_t>()[0];
  CHECK_THROWS_WITH_AS(loaded(broken, 7, 1), doctest::Contains("stands twice"), DataError);
  CHECK_THROWS_AS(RowReservoir("r", 0, 100, 1), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::test
