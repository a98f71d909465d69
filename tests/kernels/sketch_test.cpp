#include "sketchgrad/kernels/sketch.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/update_walk.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/support/test_exec.h"

namespace sketchgrad::kernels {
namespace {

using test::cpu_exec;

// A plan and the arrays it points into.
struct OwnedPlan {
  OwnedPlan(uint64_t seed, int32_t depth, int64_t width, const std::vector<int32_t>& ids)
      : slots(ids.size() * static_cast<size_t>(depth)),
        keys(slots.size()),
        order(slots.size()),
        begin(slots.size() + static_cast<size_t>(depth)),
        plan(sketch_plan(cpu_exec(), RowHash{seed}, depth, width, {}, ids.data(),
                         static_cast<int64_t>(ids.size()),
                         {slots.data(), keys.data(), order.data(), begin.data()})) {}
  std::vector<Slot> slots;
  std::vector<int32_t> keys, order, begin;
  SketchPlan plan;
};

std::vector<int32_t> every_third(int64_t count) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) ids.push_back(3 * i + 1);
  return ids;
}

// ---- Hashes against their stated distribution

// Chi-square of `counts` against equal cells, as a standard normal (Wilson & Hilferty 1931).
double chi_square_z(const std::vector<int64_t>& counts) {
  double total = 0.0;
  for (const int64_t n : counts) total += static_cast<double>(n);
  const double cells = static_cast<double>(counts.size());
  const double expected = total / cells;
  double chi2 = 0.0;
  for (const int64_t n : counts) chi2 += std::pow(static_cast<double>(n) - expected, 2) / expected;
  const double k = cells - 1.0;
  return (std::cbrt(chi2 / k) - (1.0 - 2.0 / (9.0 * k))) / std::sqrt(2.0 / (9.0 * k));
}

// Widths of both kinds, unblocked and blocked.
TEST_CASE("buckets and signs are uniform, jointly") {
  for (const int64_t width : {2, 16, 999, 1024, 4096}) {
    for (const int depth : {0, 2}) {
      // One row of a block: the others follow it.
      for (const int64_t member : {0, 5, 31}) {
        std::vector<int64_t> counts(static_cast<size_t>(2 * width));
        for (int64_t block = 0; block < 200000; ++block) {
          const Slot slot = sketch_slot(42, depth, kHashBlock * block + member, width);
          REQUIRE(slot_bucket(slot) < width);
          ++counts[static_cast<size_t>(2 * slot_bucket(slot) + (slot_sign(slot) < 0 ? 1 : 0))];
        }
        CHECK(std::abs(chi_square_z(counts)) < 4.0);
      }
    }
  }
}

TEST_CASE("two rows collide with probability 1 / width, with independent signs") {
  for (const int64_t width : {int64_t{8}, kBlockedWidth}) {
    for (const int64_t other : {45, 64, 1000}) {
      int64_t collisions = 0;
      int64_t same_sign = 0;
      const int64_t trials = 12500 * width;
      for (int64_t seed = 0; seed < trials; ++seed) {
        const Slot a = sketch_slot(static_cast<uint64_t>(seed), 1, 10, width);
        const Slot b = sketch_slot(static_cast<uint64_t>(seed), 1, other, width);
        if (slot_bucket(a) != slot_bucket(b)) continue;
        ++collisions;
        same_sign += slot_sign(a) == slot_sign(b) ? 1 : 0;
      }
      const double p = 1.0 / static_cast<double>(width);
      const double expected = p * static_cast<double>(trials);
      CHECK(std::abs(collisions - expected) < 4.0 * std::sqrt(expected * (1.0 - p)));
      CHECK(std::abs(same_sign - 0.5 * collisions) < 4.0 * std::sqrt(0.25 * collisions));
    }
  }
}

TEST_CASE("the rows of a block share a block of buckets, each its own, with signs of their own") {
  for (const int64_t width : {1024, 2000}) {      // 2000 is no multiple of 32
    std::vector<int64_t> agreements(kHashBlock);  // with the sign of the block's first row
    constexpr int64_t blocks = 20000;
    for (int64_t block = 0; block < blocks; ++block) {
      const Slot first = sketch_slot(3, 0, kHashBlock * block, width);
      std::vector<bool> taken(kHashBlock);
      for (int64_t member = 0; member < kHashBlock; ++member) {
        const Slot slot = sketch_slot(3, 0, kHashBlock * block + member, width);
        CHECK(slot_bucket(slot) / kHashBlock == slot_bucket(first) / kHashBlock);
        REQUIRE(slot_bucket(slot) < width);
        taken[static_cast<size_t>(slot_bucket(slot) % kHashBlock)] = true;
        agreements[static_cast<size_t>(member)] += slot_sign(slot) == slot_sign(first) ? 1 : 0;
      }
      CHECK(std::find(taken.begin(), taken.end(), false) == taken.end());
    }
    for (size_t member = 1; member < agreements.size(); ++member) {
      CHECK(std::abs(agreements[member] - blocks / 2) < 4.5 * std::sqrt(blocks / 4.0));
    }
  }
}

TEST_CASE("depths and seeds are independent families") {
  for (const int64_t width : {int64_t{16}, kBlockedWidth}) {
    // Of blocked sketches, the blocks of buckets.
    const int64_t unit = width < kBlockedWidth ? 1 : kHashBlock;
    const int64_t places = width / unit;
    const auto place = [&](uint64_t seed, int depth, int64_t row) {
      return slot_bucket(sketch_slot(seed, depth, row * unit, width)) / unit;
    };
    std::vector<int64_t> depths(static_cast<size_t>(places * places)), seeds(depths.size());
    for (int64_t row = 0; row < 100000; ++row) {
      const int64_t one = place(7, 0, row);
      ++depths[static_cast<size_t>(one * places + place(7, 1, row))];
      ++seeds[static_cast<size_t>(one * places + place(8, 0, row))];
    }
    CHECK(std::abs(chi_square_z(depths)) < 4.0);
    CHECK(std::abs(chi_square_z(seeds)) < 4.0);
  }
}

TEST_CASE("halving an even number of buckets, or blocks of them, halves every place") {
  for (int64_t row = 0; row < 1000; ++row) {
    const Slot wide = sketch_slot(3, 1, row, 64);
    const Slot narrow = sketch_slot(3, 1, row, 32);
    CHECK(slot_bucket(narrow) == slot_bucket(wide) / 2);
    CHECK(slot_sign(narrow) == slot_sign(wide));
    const Slot wide_blocks = sketch_slot(3, 1, row, 4096);
    const Slot narrow_blocks = sketch_slot(3, 1, row, 2048);
    CHECK(slot_bucket(narrow_blocks) / kHashBlock == slot_bucket(wide_blocks) / kHashBlock / 2);
    CHECK(slot_bucket(narrow_blocks) % kHashBlock == slot_bucket(wide_blocks) % kHashBlock);
    CHECK(slot_sign(narrow_blocks) == slot_sign(wide_blocks));
  }
}

TEST_CASE("a folded hash sends each two neighbouring buckets, or blocks of them, to one") {
  for (const int64_t made : {7, 12, 999, 1024, 2100, 5984}) {
    for (const int64_t band_rows : {0, 3000}) {
      const RowHash plain{9, band_rows};
      const int64_t unit = int64_t{1} << plain.unit_bits(made);
      for (int32_t folds = 1; folds <= 4; ++folds) {
        RowHash folded = plain;
        folded.made_width = made;
        folded.folds = folds;
        const int64_t units = (made / unit + (int64_t{1} << folds) - 1) >> folds;
        for (int64_t row = 0; row < 3000; row += 7) {
          const Slot from = plain.slot(1, row, made), to = folded.slot(1, row, units * unit);
          CHECK(slot_bucket(to) / unit == (slot_bucket(from) / unit) >> folds);
          CHECK(slot_bucket(to) % unit == slot_bucket(from) % unit);
          CHECK(slot_bucket(to) < std::max(units * unit, made % unit + units * unit));
          CHECK(slot_sign(to) == slot_sign(from));
        }
      }
    }
  }
}

TEST_CASE("folding buckets: neighbours add up, the last of an odd number stays") {
  for (const auto& [from_width, unit, to_width] :
       {std::tuple(6, 1, 3), std::tuple(7, 1, 4), std::tuple(1, 1, 1), std::tuple(96, 32, 64),
        std::tuple(100, 32, 64), std::tuple(128, 32, 64)}) {
    CAPTURE(from_width);
    constexpr int64_t depth = 2, dim = 5;
    const std::vector<float> from = test::random_floats(depth * from_width * dim, 2);
    std::vector<float> to(static_cast<size_t>(depth * to_width * dim), 9.0f), input = from;
    const auto view = [](std::vector<float>& cells, int64_t width) {
      return SketchView{
          .cells = cells.data(), .depth = depth, .width = width, .dim = dim, .stride = dim};
    };
    fold_sketch(cpu_exec(), view(input, from_width), unit, 0.5f, view(to, to_width));
    std::vector<double> sums(to.size()), counts(to.size());
    for (int64_t j = 0; j < depth; ++j) {
      for (int64_t b = 0; b < from_width / unit * unit; ++b) {
        for (int64_t c = 0; c < dim; ++c) {
          const int64_t bucket = b / unit / 2 * unit + b % unit;
          const auto at = static_cast<size_t>((j * to_width + bucket) * dim + c);
          sums[at] += from[static_cast<size_t>((j * from_width + b) * dim + c)];
          ++counts[at];
        }
      }
    }
    CHECK(test::largest_error(to, [&](size_t i) { return sums[i] / counts[i]; }) < 1e-7);
    CHECK_THROWS_AS(
        fold_sketch(cpu_exec(), view(input, from_width), unit, 0.5f, view(to, to_width + unit)),
        InvalidArgument);
  }
}

TEST_CASE(
    "a count-sketch estimate is unbiased, its variance the neighbours' energy over the width") {
  constexpr int64_t rows = 50;
  constexpr int64_t width = 10;
  const std::vector<float> x = test::random_normals(rows, 1);
  double energy = 0.0;
  for (int64_t i = 1; i < rows; ++i)
    energy += x[static_cast<size_t>(i)] * x[static_cast<size_t>(i)];
  double sum = 0.0;
  double squares = 0.0;
  constexpr int trials = 20000;
  for (int seed = 0; seed < trials; ++seed) {
    const Slot own = sketch_slot(static_cast<uint64_t>(seed), 0, 0, width);
    double cell = 0.0;
    for (int64_t i = 0; i < rows; ++i) {
      const Slot slot = sketch_slot(static_cast<uint64_t>(seed), 0, i, width);
      if (slot_bucket(slot) == slot_bucket(own))
        cell += slot_sign(slot) * x[static_cast<size_t>(i)];
    }
    const double error = slot_sign(own) * cell - x[0];
    sum += error;
    squares += error * error;
  }
  const double variance = energy / width;
  CHECK(std::abs(sum / trials) < 4.0 * std::sqrt(variance / trials));
  CHECK(squares / trials == doctest::Approx(variance).epsilon(0.05));
}

struct Geometry {
  int32_t depth;
  int64_t width;
  int64_t dim;
  int64_t rows;
};
const std::vector<Geometry> kGeometries{{1, 4, 1, 9},   {2, 5, 7, 20}, {3, 6, 33, 40},
                                        {4, 1, 300, 7}, {8, 9, 16, 3}, {3, 50, 7, 1},
                                        {3, 6, 33, 0}};

SketchView view_of(std::vector<float>& cells, const Geometry& g) {
  return {cells.data(), g.depth, g.width, g.dim, g.dim};
}

std::vector<float> random_cells(const Geometry& g) {
  return test::random_normals(static_cast<size_t>(g.depth * g.width * g.dim), 3);
}

// ---- Steps against double references

// What update_rows does with one sketch as the first moment of the rule w <- w + x, so that rows of
// zeros become the new values x.
struct Stepped {
  std::vector<float> values;
  std::vector<float> cells;
};

Stepped step_sketch(const Geometry& g, std::vector<float> cells, const SketchStep& step,
                    const std::vector<float>& gradient, Matrix row_state = {}) {
  std::vector<int32_t> ids = every_third(g.rows);
  ids.reserve(1);  // no rows, yet not all rows
  const OwnedPlan owned(5, g.depth, g.width, ids);
  const int64_t table_rows = 3 * g.rows + 2;
  std::vector<float> parameter(static_cast<size_t>(table_rows * g.dim), 0.0f);
  update_rows(cpu_exec(), MomentumRule{-1.0f, 0.0f, 1.0f},
              SketchState{view_of(cells, g), &owned.plan, step, row_state}, NoState{}, ids.data(),
              contiguous<const float>(gradient.data(), g.rows, g.dim),
              contiguous(parameter.data(), table_rows, g.dim));
  Stepped result{{}, std::move(cells)};
  for (const int32_t id : ids) {
    const auto row = parameter.begin() + id * g.dim;
    result.values.insert(result.values.end(), row, row + g.dim);
  }
  return result;
}

TEST_CASE("estimates are the median, minimum or mean of the readings") {
  for (const Geometry& g : kGeometries) {
    const std::vector<float> cells = random_cells(g);
    const std::vector<int32_t> ids = every_third(g.rows);
    const std::vector<float> gradient =
        test::random_normals(static_cast<size_t>(g.rows * g.dim), 9);
    for (const Combine combine : {Combine::median, Combine::minimum, Combine::mean}) {
      for (const bool with_signs : {false, true}) {
        const SketchStep step{.accumulate = {1.0f, 0.0f, false},
                              .combine = combine,
                              .with_signs = with_signs,
                              .cell_scale = 2.0f};
        const Stepped out = step_sketch(g, cells, step, gradient);
        CHECK(out.cells == cells);
        for (int64_t r = 0; r < g.rows; ++r) {
          for (int64_t c = 0; c < g.dim; ++c) {
            std::vector<double> v;
            double mean = 0.0;
            for (int32_t j = 0; j < g.depth; ++j) {
              const Slot slot = sketch_slot(5, j, ids[static_cast<size_t>(r)], g.width);
              const double sign = with_signs ? slot_sign(slot) : 1.0;
              v.push_back(
                  2.0 * sign *
                  cells[static_cast<size_t>((j * g.width + slot_bucket(slot)) * g.dim + c)]);
              mean += v.back() / g.depth;
            }
            std::sort(v.begin(), v.end());
            const size_t n = v.size();
            const double median = n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2.0;
            const double expected = combine == Combine::median    ? median
                                    : combine == Combine::minimum ? v[0]
                                                                  : mean;
            CHECK(out.values[static_cast<size_t>(r * g.dim + c)] ==
                  doctest::Approx(expected).epsilon(1e-5));
          }
        }
      }
    }
  }
}

TEST_CASE("buckets combine their rows, in columns of any width") {
  for (const Geometry& g : kGeometries) {
    for (const bool mean : {false, true}) {
      for (const bool clamp : {false, true}) {
        const std::vector<float> cells = random_cells(g);
        std::vector<double> expected(cells.begin(), cells.end());
        const std::vector<int32_t> ids = every_third(g.rows);
        const std::vector<float> gradient =
            test::random_normals(static_cast<size_t>(g.rows * g.dim), 9);
        SketchStep step{.accumulate = {1.0f, 0.0f, true}, .with_signs = true};
        const std::vector<float> estimate = step_sketch(g, cells, step, gradient).values;
        step.estimate_weight = 0.3f;
        step.input_weight = 0.5f;
        step.cell_keep = 0.9f;
        step.cell_decay = -0.01f;
        step.mean = mean;
        step.clamp_at_zero = clamp;
        for (int32_t j = 0; j < g.depth; ++j) {
          for (int64_t b = 0; b < g.width; ++b) {
            std::vector<size_t> items;
            for (size_t i = 0; i < ids.size(); ++i) {
              if (slot_bucket(sketch_slot(5, j, ids[i], g.width)) == b) items.push_back(i);
            }
            if (items.empty()) continue;
            const double k = static_cast<double>(items.size());
            for (int64_t c = 0; c < g.dim; ++c) {
              double sum = 0.0;
              for (const size_t i : items) {
                const size_t at = i * static_cast<size_t>(g.dim) + static_cast<size_t>(c);
                const double u = static_cast<double>(gradient[at]) * gradient[at];
                sum += slot_sign(sketch_slot(5, j, ids[i], g.width)) *
                       (0.3 * static_cast<double>(estimate[at]) + 0.5 * u);
              }
              double& cell = expected[static_cast<size_t>((j * g.width + b) * g.dim + c)];
              cell = (0.9 - 0.01 * k) * cell + (mean ? sum / k : sum);
              if (clamp) cell = std::max(cell, 0.0);
            }
          }
        }
        const Stepped out = step_sketch(g, cells, step, gradient);
        for (size_t i = 0; i < cells.size(); ++i) {
          CHECK(out.cells[i] == doctest::Approx(expected[i]).epsilon(1e-4));
        }
      }
    }
  }
}

// Cuts the columns into `kSpans` spans, or as many as there are pieces.
template <int64_t kSpans>
struct SpanPolicy : SerialPolicy {
  template <class Body>
  static void for_each_span(int64_t blocks, const Body& body) {
    const int64_t spans = std::min(blocks, kSpans);
    for (int64_t s = 0; s < spans; ++s) body(s * blocks / spans, (s + 1) * blocks / spans);
  }
};

// Not inlined: GCC 12 sees into the accesses and warns of alternatives that they do not hold.
template <class Policy>
[[gnu::noinline]] void update_by(const UpdateRule& rule, const StateAccess& first,
                                 const StateAccess& second, const int32_t* ids,
                                 ConstMatrix gradient, Matrix parameter) {
  update_pieces_impl(Policy{}, cpu_exec(), rule, first, second, ids, gradient, parameter);
}

void update_by_tbb(const UpdateRule& rule, const StateAccess& first, const StateAccess& second,
                   const int32_t* ids, ConstMatrix gradient, Matrix parameter) {
  update_rows(cpu_exec(), rule, first, second, ids, gradient, parameter);
}

// One variable of a step: how it is read, and in how many depths.
struct Variety {
  int32_t depth;
  SketchStep step;
};

// Every way of weighing rows, every reading of the depths, means, and a second query.
std::vector<Variety> first_moments() {
  SketchStep plain{.accumulate = {0.9f, 0.1f, false},
                   .with_signs = true,
                   .estimate_weight = -0.1f,
                   .input_weight = 0.1f,
                   .previous_mass = 0.4f};
  SketchStep mean = plain, requery = plain, by_depths = plain, by_power = plain;
  mean.mean = true;
  requery.requery = true;
  by_depths.rows = RowWeights::by_depths;
  by_power.rows = RowWeights::by_power;
  return {{1, plain},     {3, plain},     {4, mean},     {1, requery}, {3, requery},
          {2, by_depths}, {3, by_depths}, {1, by_power}, {3, by_power}};
}

std::vector<Variety> second_moments() {
  SketchStep minimum{.accumulate = {0.99f, 0.01f, true},
                     .combine = Combine::minimum,
                     .estimate_weight = -0.01f,
                     .input_weight = 0.01f,
                     .clamp_at_zero = true};
  SketchStep by_scale{.accumulate = {0.99f, 0.01f, true},
                      .combine = Combine::mean,
                      .input_weight = 1.0f,
                      .cell_keep = 0.99f,
                      .rows = RowWeights::by_scale};
  SketchStep decaying = minimum;
  decaying.cell_decay = -0.01f;
  return {{1, minimum}, {3, decaying}, {1, by_scale}, {2, by_scale}};
}

// All that a step of two sketched variables writes: the parameter, cells and what rows keep.
template <class Update>
std::vector<float> step_both(const Variety& first, const Variety& second, int64_t dim,
                             const Update& update) {
  constexpr int64_t kRows = 40, kTableRows = 122, kWidth = 7;
  const std::vector<int32_t> ids = every_third(kRows);
  const std::vector<float> gradient = test::random_normals(static_cast<size_t>(kRows * dim), 9);
  const OwnedPlan first_plan(5, first.depth, kWidth, ids);
  const OwnedPlan second_plan(5, second.depth, kWidth, ids);
  const bool same = first.depth == second.depth;
  const int64_t pieces = sketch_pieces(dim);
  const int64_t cells1 = first.depth * kWidth * dim, cells2 = second.depth * kWidth * dim;
  std::vector<float> all = test::random_normals(
      static_cast<size_t>(cells1 + cells2 + kTableRows * (dim + 2 * pieces)), 3);
  for (float& value : all) value = std::abs(value);
  float* const other_cells = all.data() + cells1;
  float* const parameter = other_cells + cells2;
  float* const state1 = parameter + kTableRows * dim;
  float* const state2 = state1 + kTableRows * pieces;
  update(AdamRule{0.01f, 1.0f, 1e-3f, 0.99f},
         SketchState{{all.data(), first.depth, kWidth, dim, dim},
                     &first_plan.plan,
                     first.step,
                     contiguous(state1, kTableRows, pieces)},
         SketchState{{other_cells, second.depth, kWidth, dim, dim},
                     same ? &first_plan.plan : &second_plan.plan,
                     second.step,
                     contiguous(state2, kTableRows, pieces)},
         ids.data(), contiguous<const float>(gradient.data(), kRows, dim),
         contiguous(parameter, kTableRows, dim));
  return all;
}

TEST_CASE("any number of spans and threads gives the bits of the serial policy") {
  for (const int64_t dim : {1, 200, 600, 2100}) {
    CAPTURE(dim);
    for (const Variety& first : first_moments()) {
      for (const Variety& second : second_moments()) {
        CAPTURE(first.depth);
        CAPTURE(static_cast<int>(first.step.rows));
        CAPTURE(second.depth);
        CAPTURE(static_cast<int>(second.step.rows));
        const auto run = [&](const auto& update) { return step_both(first, second, dim, update); };
        const std::vector<float> serial = run(update_by<SerialPolicy>);
        CHECK(test::same_bits(serial, run(update_by<SpanPolicy<1>>)));
        CHECK(test::same_bits(serial, run(update_by<SpanPolicy<2>>)));
        CHECK(test::same_bits(serial, run(update_by<SpanPolicy<3>>)));
        CHECK(test::same_bits(serial, run(update_by<SpanPolicy<INT64_MAX>>)));
        for (const size_t threads : {size_t{1}, size_t{2}}) {
          CHECK(test::same_bits(serial,
                                test::with_threads(threads, [&] { return run(update_by_tbb); })));
        }
      }
    }
  }
}

TEST_CASE("by scale, a bucket without a shape leaves the row flat") {
  const Geometry g{1, 4, 5, 1};
  std::vector<float> scales(5, 8.0f);
  const SketchStep step{.accumulate = {0.5f, 0.5f, true},
                        .combine = Combine::mean,
                        .input_weight = 1.0f,
                        .cell_keep = 0.5f,
                        .rows = RowWeights::by_scale};
  const Stepped out = step_sketch(g, std::vector<float>(20, 0.0f), step,
                                  {1.0f, 2.0f, 0.0f, 0.0f, 0.0f}, contiguous(scales.data(), 5, 1));
  CHECK(out.values == std::vector<float>{4.5f, 6.0f, 4.0f, 4.0f, 4.0f});
}

TEST_CASE("a second query sees what the step wrote") {
  for (const Geometry& g : kGeometries) {
    const std::vector<float> gradient =
        test::random_normals(static_cast<size_t>(g.rows * g.dim), 9);
    SketchStep step{.accumulate = {0.9f, 0.1f, false},
                    .with_signs = true,
                    .estimate_weight = -0.1f,
                    .input_weight = 0.1f,
                    .requery = true};
    const Stepped out = step_sketch(g, random_cells(g), step, gradient);
    const SketchStep query{.accumulate = {1.0f, 0.0f, false}, .with_signs = true};
    CHECK(out.values == step_sketch(g, out.cells, query, gradient).values);
  }
}

TEST_CASE("what does not fit is refused") {
  const Geometry g{3, 6, 4, 5};
  const SketchStep step;
  const std::vector<float> cells = random_cells(g);
  const std::vector<float> gradient(100);
  CHECK_THROWS_AS(OwnedPlan(5, 9, 4, {}), InvalidArgument);
  CHECK_THROWS_AS(OwnedPlan(5, 0, 4, {}), InvalidArgument);
  CHECK_THROWS_AS(OwnedPlan(5, 3, 0, {}), InvalidArgument);
  const OwnedPlan owned(5, g.depth, g.width, every_third(g.rows));
  std::vector<float> parameter(100), own_cells = cells;
  const auto update = [&](SketchView sketch, SketchStep choices, ConstMatrix rows) {
    update_rows(cpu_exec(), SgdRule{}, SketchState{sketch, &owned.plan, choices, {}}, NoState{},
                every_third(g.rows).data(), rows, contiguous(parameter.data(), 20, rows.cols));
  };
  const SketchView view = view_of(own_cells, g);
  const ConstMatrix rows = contiguous<const float>(gradient.data(), 5, 4);
  CHECK_NOTHROW(update(view, step, rows));
  CHECK_THROWS_AS(update(view, step, rows.columns(0, 3)), InvalidArgument);
  CHECK_THROWS_AS(update(view, step, rows.row_range(0, 4)), InvalidArgument);
  SketchView shallow = view;
  shallow.depth = 1;
  CHECK_THROWS_AS(update(shallow, step, rows), InvalidArgument);
  SketchView narrow = view;
  narrow.width = 5;
  CHECK_THROWS_AS(update(narrow, step, rows), InvalidArgument);
  SketchView overlapping = view;
  overlapping.stride = 3;
  CHECK_THROWS_AS(update(overlapping, step, rows), InvalidArgument);
  // Row weights without what they need.
  CHECK_THROWS_AS(update(view, {.rows = RowWeights::by_power}, rows), InvalidArgument);
  CHECK_THROWS_AS(update(view, {.rows = RowWeights::by_scale}, rows), InvalidArgument);
  CHECK_THROWS_AS(update(view, {.rows = RowWeights::by_depths, .requery = true}, rows),
                  InvalidArgument);
  CHECK_THROWS_AS(step_sketch({1, 6, 4, 5}, cells, {.rows = RowWeights::by_depths}, gradient),
                  InvalidArgument);
}

TEST_CASE("trust is 1 where the depths agree and small where they show only noise") {
  constexpr int64_t dim = 64;
  const Geometry g{3, 4096, dim, 2};
  std::vector<float> cells(static_cast<size_t>(g.depth * g.width * dim), 0.0f);
  const std::vector<int32_t> ids = every_third(2);
  const std::vector<float> value = test::random_normals(dim, 1);
  const std::vector<float> noise = test::random_normals(3 * dim, 2);
  for (int32_t j = 0; j < 3; ++j) {
    for (size_t row = 0; row < 2; ++row) {
      const Slot slot = sketch_slot(5, j, ids[row], g.width);
      for (int64_t c = 0; c < dim; ++c) {
        cells[static_cast<size_t>((j * g.width + slot_bucket(slot)) * dim + c)] =
            row == 0 ? slot_sign(slot) * value[static_cast<size_t>(c)]
                     : noise[static_cast<size_t>(j * dim + c)];
      }
    }
  }
  const SketchStep step{.accumulate = {0.9f, 0.1f, false},
                        .with_signs = true,
                        .rows = RowWeights::by_depths,
                        .previous_mass = 0.4f};
  // With gradients of 1 a row is decay * estimate + scale.
  const Stepped out = step_sketch(g, cells, step, std::vector<float>(2 * dim, 1.0f));
  double distrusted = 0.0;
  for (size_t c = 0; c < dim; ++c) {
    CHECK(out.values[c] == doctest::Approx(0.9 * value[c] + 0.1).epsilon(1e-4));
    distrusted += std::abs(out.values[dim + c] - (0.1 + 0.9 * 0.4)) / dim;
  }
  CHECK(distrusted < 0.35);
}

TEST_CASE("the Wiener filter's trust is the signal's share of the power") {
  CHECK(wiener_trust(1.0f, 4.0f) == 0.25f);
  CHECK(wiener_trust(4.0f, 1.0f) == 1.0f);
  CHECK(wiener_trust(0.0f, 0.0f) == 1.0f);
  // |0.9 x + 0.1 u|^2 for x = (3, 4), u = (1, 0).
  CHECK(wiener_power(25.0f, {0.9f, 0.1f, false}, 1.0f, 3.0f, 1.0f) ==
        doctest::Approx(std::pow(2.8, 2) + std::pow(3.6, 2)));
  CHECK(wiener_power(1.0f, {0.9f, 0.1f, false}, 1.0f, -100.0f, 1.0f) == 0.0f);
}

TEST_CASE("by scale, the mean of a row is exact whatever shares its bucket") {
  const Geometry g{1, 1, 33, 2};  // one bucket for both rows
  std::vector<float> scales(8, 0.0f);
  std::vector<float> cells(33, 0.0f);
  const SketchStep step{.accumulate = {0.9f, 0.1f, true},
                        .combine = Combine::mean,
                        .input_weight = 1.0f,
                        .cell_keep = 0.9f,
                        .rows = RowWeights::by_scale};
  double expected[2] = {};
  for (uint32_t t = 0; t < 20; ++t) {
    std::vector<float> gradient = test::random_normals(2 * 33, t);
    for (size_t c = 0; c < 33; ++c) gradient[33 + c] *= 1000.0f;
    const Stepped out = step_sketch(g, cells, step, gradient, contiguous(scales.data(), 8, 1));
    cells = out.cells;
    for (size_t r = 0; r < 2; ++r) {
      double input = 0.0;
      double value = 0.0;
      for (size_t c = r * 33; c < (r + 1) * 33; ++c) {
        input += static_cast<double>(gradient[c]) * gradient[c] / 33;
        value += static_cast<double>(out.values[c]) / 33;
      }
      expected[r] = 0.9 * expected[r] + 0.1 * input;
      CHECK(value == doctest::Approx(expected[r]).epsilon(1e-5));
    }
  }
}

TEST_CASE("by scale, a new row does not overwrite the shape of its bucket") {
  constexpr size_t dim = 16;
  std::vector<float> scales(8, 0.0f);
  std::vector<float> cells(dim, 0.0f);
  const SketchStep step{.accumulate = {0.99f, 0.01f, true},
                        .combine = Combine::mean,
                        .input_weight = 1.0f,
                        .cell_keep = 0.99f,
                        .rows = RowWeights::by_scale};
  const std::vector<float> flat(dim, 1.0f);
  for (int t = 0; t < 50; ++t) {
    cells = step_sketch({1, 1, dim, 1}, cells, step, flat, contiguous(scales.data(), 5, 1)).cells;
  }
  std::vector<float> gradient(2 * dim, 1.0f);
  std::fill(gradient.begin() + dim + 1, gradient.end(), 0.0f);  // the new row: one column alone
  cells = step_sketch({1, 1, dim, 2}, cells, step, gradient, contiguous(scales.data(), 8, 1)).cells;
  float mean = 0.0f;
  for (const float cell : cells) mean += cell / dim;
  for (size_t c = 1; c < dim; ++c) CHECK(cells[c] > 0.95f * mean);
}

TEST_CASE("pieces of a row are about equal, few, and no wider than they may be") {
  for (int64_t dim = 1; dim <= 5000; ++dim) {
    const int64_t columns = sketch_piece_columns(dim);
    REQUIRE(columns > 0);
    CHECK(columns <= (dim <= 256 ? kPieceColumns : kWidestPiece));
    CHECK((columns == dim || columns % 8 == 0));
    CHECK(sketch_pieces(dim) == (dim + columns - 1) / columns);
    CHECK((sketch_pieces(dim) <= kPiecesOfRow || dim > kPiecesOfRow * kWidestPiece));
  }
}

}  // namespace
}  // namespace sketchgrad::kernels
