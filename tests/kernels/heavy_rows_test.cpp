#include "sketchgrad/kernels/heavy_rows.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/support/test_exec.h"

namespace sketchgrad::kernels {
namespace {

using test::cpu_exec;

struct Heavy {
  explicit Heavy(int64_t sets, uint64_t seed = 5)
      : owners(static_cast<size_t>(sets * kSetWays), -1), weights(owners.size()) {
    view = {owners.data(), weights.data(), sets, seed};
  }
  void step(const std::vector<int32_t>& ids, const std::vector<float>& entry_weights,
            int64_t number) {
    slots.assign(ids.size(), 77);
    previous.assign(ids.size(), 77);
    claim_slots(cpu_exec(), view, ids.data(), entry_weights.data(),
                static_cast<int64_t>(ids.size()), number, {slots.data(), previous.data()});
  }
  std::vector<int32_t> owners;
  std::vector<float> weights;
  HeavySets view;
  std::vector<int32_t> slots, previous;
};

TEST_CASE("claims: what a step gives out is what the sets hold") {
  std::mt19937 random(3);
  for (const int64_t sets : {1, 3, 40}) {
    Heavy heavy(sets);
    for (int64_t step = 1; step <= 50; ++step) {
      std::vector<int32_t> ids;
      std::vector<float> weights;
      for (int32_t id = 0; id < 200; ++id) {
        if (random() % 3 != 0) continue;
        ids.push_back(id);
        weights.push_back(static_cast<float>(1 + id % 7));
      }
      const std::vector<int32_t> before = heavy.owners;
      const std::vector<float> weights_before = heavy.weights;
      heavy.step(ids, weights, step);
      std::vector<float> expected = weights_before;
      for (size_t r = 0; r < ids.size(); ++r) {
        const int32_t slot = heavy.slots[r];
        const auto had = std::find(before.begin(), before.end(), ids[r]);
        if (had != before.end()) CHECK(slot == had - before.begin());
        if (slot < 0) {
          CHECK(heavy.previous[r] == HeavyClaims::kNotMoved);
          continue;
        }
        CHECK(heavy.owners[static_cast<size_t>(slot)] == ids[r]);
        CHECK(slot / kSetWays == heavy.view.set_of(ids[r]));
        CHECK(heavy.previous[r] ==
              (had != before.end() ? HeavyClaims::kNotMoved : before[static_cast<size_t>(slot)]));
        expected[static_cast<size_t>(slot)] += weights[r];
      }
      CHECK(heavy.weights == expected);
      // Owners are distinct.
      std::map<int32_t, int> count;
      for (const int32_t owner : heavy.owners) {
        if (owner >= 0) CHECK(++count[owner] == 1);
      }
    }
  }
}

TEST_CASE("claims: a row of weight w drives out a weight of c with probability w / (c + w)") {
  constexpr int kTrials = 4000;
  int taken = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    Heavy heavy(1, static_cast<uint64_t>(trial));
    heavy.step({0, 1, 2, 3, 4, 5, 6, 7}, {30, 30, 30, 6, 30, 30, 30, 30}, 1);
    heavy.step({9}, {2}, 2);
    if (heavy.slots[0] >= 0) {
      ++taken;
      CHECK(heavy.previous[0] == 3);
      CHECK(heavy.weights[static_cast<size_t>(heavy.slots[0])] == 8.0f);
    }
  }
  const double expected = kTrials * 2.0 / 8.0;
  CHECK(std::abs(taken - expected) < 4.0 * std::sqrt(expected * 0.75));
}

TEST_CASE("claims: of a Zipf stream the heaviest rows are found") {
  constexpr int64_t kRows = 20000;
  Heavy heavy(/*sets=*/64);
  std::mt19937 random(11);
  std::vector<double> cumulative;
  double total = 0.0;
  for (int64_t i = 1; i <= kRows; ++i) cumulative.push_back(total += 1.0 / static_cast<double>(i));
  std::uniform_real_distribution<double> uniform(0.0, total);
  for (int64_t step = 1; step <= 2000; ++step) {
    std::map<int32_t, float> counts;
    for (int i = 0; i < 100; ++i) {
      const auto at = std::lower_bound(cumulative.begin(), cumulative.end(), uniform(random));
      counts[static_cast<int32_t>(at - cumulative.begin())] += 1.0f;
    }
    std::vector<int32_t> ids;
    std::vector<float> weights;
    for (const auto& [id, count] : counts) {
      ids.push_back(id);
      weights.push_back(count);
    }
    heavy.step(ids, weights, step);
  }
  // 512 slots: of the 200 heaviest rows nearly all. A set of eight has 3.1 of them in the mean, so
  // that some are crowded out.
  int found = 0;
  for (const int32_t owner : heavy.owners) found += owner >= 0 && owner < 200 ? 1 : 0;
  CHECK(found >= 190);
}

TEST_CASE("claims: no weight claims nothing, ids below zero are no rows, and sizes are checked") {
  Heavy heavy(2);
  heavy.step({1, 2, 3}, {0, 0, 0}, 1);
  CHECK(heavy.slots == std::vector<int32_t>{-1, -1, -1});
  heavy.step({-1, -5}, {3, 4}, 1);
  CHECK(heavy.slots == std::vector<int32_t>{-1, -1});
  CHECK(heavy.previous == std::vector<int32_t>(2, HeavyClaims::kNotMoved));
  heavy.step({}, {}, 2);
  CHECK(heavy.owners == std::vector<int32_t>(16, -1));
  CHECK_THROWS_AS(claim_slots(cpu_exec(), {nullptr, nullptr, 0, 1}, nullptr, nullptr, 0, 1, {}),
                  InvalidArgument);
  CHECK_THROWS_AS(claim_slots(cpu_exec(), {nullptr, nullptr, 2, 1}, nullptr, nullptr, 0, 1, {}),
                  InvalidArgument);
}

// What move_to_slots says of one entry, in double: the values of its new bucket.
std::vector<double> moved(const std::vector<float>& cells, const std::vector<float>& state,
                          const RowHash& hash, const SketchStep& step, int64_t width, int64_t dim,
                          int32_t id) {
  const Slot place = hash.slot(0, id, width);
  const double sign = step.with_signs ? slot_sign(place) : 1.0;
  const int64_t columns = sketch_piece_columns(dim), pieces = sketch_pieces(dim);
  std::vector<double> result;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t begin = piece * columns, end = std::min(dim, begin + columns);
    const double kept = state.empty() ? 0.0 : state[static_cast<size_t>(id * pieces + piece)];
    const auto cell = [&](int64_t c) {
      return static_cast<double>(cells[static_cast<size_t>(slot_bucket(place) * dim + c)]);
    };
    double power = 0.0, sum = 0.0;
    for (int64_t c = begin; c < end; ++c) {
      power += cell(c) * cell(c);
      sum += cell(c);
    }
    const double mean = sum / static_cast<double>(end - begin);
    for (int64_t c = begin; c < end; ++c) {
      if (step.rows == RowWeights::by_power) {
        result.push_back(sign * cell(c) * std::min(1.0, kept / power));
      } else if (step.rows == RowWeights::by_scale) {
        result.push_back(mean > 0.0 ? kept / mean * cell(c) : kept);
      } else {
        result.push_back(sign * cell(c));
      }
    }
  }
  return result;
}

TEST_CASE("moves: a new slot takes what the sketch says of its row, others stay") {
  constexpr int64_t rows = 40, width = 6, slots = 2 * kSetWays;
  const std::vector<int32_t> ids{0, 3, 4, 9, 17, 31, 39};
  // Entries 1 and 2 come from the sketch to slots of nobody, 4 drives out row 25; 3 had a slot.
  const std::vector<int32_t> slot_of{-1, 2, 9, 4, 15, -1, 7};
  const std::vector<int32_t> previous{-2, -1, -1, -2, 25, -2, 30};
  for (const int64_t dim : {1, 7, 33, 300}) {
    for (const auto& [weights, with_signs] :
         {std::pair(RowWeights::constant, true), std::pair(RowWeights::constant, false),
          std::pair(RowWeights::by_power, true), std::pair(RowWeights::by_scale, false)}) {
      CAPTURE(dim);
      CAPTURE(static_cast<int>(weights));
      SketchStep step{.with_signs = with_signs, .rows = weights};
      const bool scaled = weights == RowWeights::by_scale;
      std::vector<float> cells =
          test::random_floats((width + slots) * dim, 3, scaled ? 0.1f : -1.0f);
      const RowHash hash{11};
      // The bucket of entry 1 holds nothing.
      const int64_t empty = slot_bucket(hash.slot(0, ids[1], width));
      std::fill_n(cells.begin() + empty * dim, dim, 0.0f);
      const int64_t pieces = sketch_pieces(dim);
      std::vector<float> state;
      if (weights != RowWeights::constant) {
        state = test::random_floats(rows * pieces, 4, 0.1f, 2.0f);
      }
      const std::vector<float> cells_before = cells, state_before = state;
      std::vector<int32_t> given = slot_of, before = previous;
      move_to_slots(cpu_exec(),
                    {.cells = cells.data(), .depth = 1, .width = width, .dim = dim, .stride = dim},
                    hash, step, state.empty() ? Matrix{} : contiguous(state.data(), rows, pieces),
                    ids.data(), static_cast<int64_t>(ids.size()), {given.data(), before.data()});
      std::vector<float> cells_expected = cells_before, state_expected = state_before;
      for (size_t r = 0; r < ids.size(); ++r) {
        if (previous[r] == HeavyClaims::kNotMoved) continue;
        const auto values = moved(cells_before, state_before, hash, step, width, dim, ids[r]);
        const auto to = cells_expected.begin() + (width + slot_of[r]) * dim;
        for (int64_t c = 0; c < dim; ++c) {
          // 0 times infinity where nothing was there to be weighed.
          const double value = values[static_cast<size_t>(c)];
          to[c] = static_cast<float>(std::isnan(value) ? 0.0 : value);
        }
        if (weights != RowWeights::by_power || previous[r] < 0) continue;
        std::fill_n(state_expected.begin() + previous[r] * pieces, pieces, 0.0f);
      }
      CHECK(test::largest_error(cells, [&](size_t i) { return cells_expected[i]; }) < 1e-6);
      CHECK(state == state_expected);
    }
  }
}

}  // namespace
}  // namespace sketchgrad::kernels
