#include "sketchgrad/optim/sketch_memory.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cstring>
#include <numeric>
#include <random>
#include <tuple>

#include "sketchgrad/tests/optim/memory_testing.h"

namespace sketchgrad::test {
namespace {

// Odd sizes, one column, several pieces and several ranges of columns, one bucket for all, more
// buckets than rows, and rows hashed by blocks.
const std::vector<Case> kCases{{40, 1, 3, 5},   {40, 7, 3, 5},    {40, 33, 2, 16}, {25, 300, 3, 4},
                               {9, 64, 4, 1},   {12, 65, 3, 90},  {30, 5, 8, 7},   {6, 600, 3, 4},
                               {4, 2100, 2, 3}, {300, 3, 2, 1030}};

// The seed that the optimizer drew for a table, as its checkpoint tells it.
uint64_t hash_seed_of(const Optimizer& optimizer, const std::string& moment) {
  StateDict state;
  optimizer.save(state);
  return state.unsigned_integer("optimizer.table." + moment + ".hash_seed");
}

void compare_with_transcription(const Pair& pair, const Case& size, Reading reading1,
                                Reading reading2, bool banded = false) {
  const std::string name = pair.name;
  CAPTURE(name);
  CAPTURE(size.dim);
  CAPTURE(size.width);
  CAPTURE(to_string(reading1));
  CAPTURE(to_string(reading2));
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer = pair.optimizer(17);
  const MemorySpec sketch1 =
      CountSketch{.depth = size.depth, .width = size.width, .reading = reading1, .banded = banded};
  // The moments of odd tables share no plan.
  const int32_t depth2 = size.rows % 2 == 0 ? size.depth : size.depth - 1;
  const int64_t width2 = size.rows % 2 == 0 ? size.width : size.width + 2;
  const MemorySpec sketch2 =
      CountMin{.depth = depth2, .width = width2, .reading = reading2, .banded = banded};
  optimizer.add(parameter,
                {pair.scale1 != 0.0 ? sketch1 : None{}, pair.scale2 != 0.0 ? sketch2 : None{}});
  const uint64_t seed = hash_seed_of(optimizer, pair.scale1 != 0.0 ? "first" : "second");
  const int64_t band_rows = banded ? size.rows : 0;
  ReferenceMemory first({size.depth, size.width, size.dim, seed, true, band_rows}, reading1,
                        size.rows);
  ReferenceMemory second({depth2, width2, size.dim, seed, false, band_rows}, reading2, size.rows);

  Values expected(static_cast<size_t>(size.rows),
                  std::vector<double>(static_cast<size_t>(size.dim), 0.0));
  const std::vector<Step> steps = random_steps(size, 5);
  for (int64_t t = 1; t <= kSteps; ++t) {
    const Step& step = steps[static_cast<size_t>(t - 1)];
    give_gradient(parameter, step, size);
    optimizer.step();
    optimizer.clear_gradients();

    Values squares = step.gradient;
    for (auto& row : squares) {
      for (double& g : row) g *= g;
    }
    Values zeros = step.gradient;
    for (auto& row : zeros) std::fill(row.begin(), row.end(), 0.0);
    const Values m = pair.scale1 != 0.0
                         ? first.step(step.items, step.gradient, pair.decay1, pair.scale1, t)
                         : zeros;
    const Values v =
        pair.scale2 != 0.0 ? second.step(step.items, squares, pair.decay2, pair.scale2, t) : zeros;
    for (size_t e = 0; e < step.items.size(); ++e) {
      std::vector<double>& row = expected[static_cast<size_t>(step.items[e])];
      for (size_t c = 0; c < row.size(); ++c) {
        row[c] = pair.rule(row[c], step.gradient[e][c], m[e][c], v[e][c], t);
      }
    }
  }
  double worst = 0.0;
  const std::vector<float> got = parameter.value.to_vector<float>();
  for (size_t r = 0; r < expected.size(); ++r) {
    for (size_t c = 0; c < expected[r].size(); ++c) {
      worst = std::max(worst, std::abs(expected[r][c] - got[r * expected[r].size() + c]) /
                                  std::max(1e-2, std::abs(expected[r][c])));
    }
  }
  CHECK(worst < 2e-3);
}

struct Readings {
  Reading first;
  Reading second;
};
const std::vector<Readings> kReadings{
    {Reading::requery, Reading::requery},       {Reading::own_delta, Reading::own_delta},
    {Reading::mean_delta, Reading::mean_delta}, {Reading::bucket_local, Reading::bucket_local},
    {Reading::linear, Reading::linear},         {Reading::trusted, Reading::row_scaled},
    {Reading::wiener, Reading::row_scaled},     {Reading::wiener, Reading::requery},
    {Reading::requery, Reading::mean_delta},    {Reading::trusted, Reading::linear}};

TEST_CASE("sketched rules against transcriptions, every reading") {
  for (const Pair& pair : pairs()) {
    for (const Case& size : kCases) {
      for (const Readings& readings : kReadings) {
        compare_with_transcription(pair, size, readings.first, readings.second);
      }
    }
  }
}

TEST_CASE("banded sketches against transcriptions") {
  for (const Case& size : {Case{40, 7, 2, 5}, Case{40, 33, 1, 16}, Case{9, 64, 2, 9},
                           Case{12, 65, 2, 90}, Case{3001, 3, 2, 1030}}) {
    compare_with_transcription(pairs().back(), size, Reading::wiener, Reading::row_scaled, true);
    compare_with_transcription(pairs().back(), size, Reading::own_delta, Reading::mean_delta, true);
  }
}

TEST_CASE("banded: neighbouring rows share a bucket, and a folded band is two") {
  const kernels::RowHash hash{7, 1000};
  for (int64_t row = 0; row < 1000; ++row) {
    const int64_t bucket = kernels::slot_bucket(hash.slot(0, row, 10));
    CHECK(bucket == row / 100);
    CHECK(kernels::slot_bucket(hash.slot(3, row, 20)) / 2 == bucket);
  }
  Parameter other("table", {100, 4});
  Optimizer hashed(Adam{}, 1);
  hashed.add(other, {Dense{}, CountMin{.width = 8}});
  StateDict state;
  hashed.save(state);
  Parameter parameter("table", {100, 4});
  Optimizer optimizer(Adam{}, 1);
  optimizer.add(parameter, {Dense{}, CountMin{.width = 8, .banded = true}});
  CHECK_THROWS_WITH_AS(optimizer.load(state), doctest::Contains("bands of 0 rows"),
                       InvalidArgument);
}

// ---- Bands of a given order

// Rows in an order without pattern: order[place] = row.
std::vector<int32_t> shuffled_rows(int64_t rows) {
  std::vector<int32_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(41));
  return order;
}

std::vector<int32_t> inverse_of(const std::vector<int32_t>& order) {
  std::vector<int32_t> ranks(order.size());
  for (size_t place = 0; place < order.size(); ++place) {
    ranks[static_cast<size_t>(order[place])] = static_cast<int32_t>(place);
  }
  return ranks;
}

TEST_CASE("bands of an order: neighbours in it share a bucket") {
  const std::vector<int32_t> order = shuffled_rows(1000);
  const std::vector<int32_t> ranks = inverse_of(order);
  std::vector<int32_t> by_id(1000);
  std::iota(by_id.begin(), by_id.end(), 0);
  const kernels::RowHash plain{7, 1000}, same{7, 1000, by_id.data()}, hash{7, 1000, ranks.data()};
  for (int depth = 0; depth < 2; ++depth) {
    for (int64_t place = 0; place < 1000; ++place) {
      const int32_t row = order[static_cast<size_t>(place)];
      CHECK(same.slot(depth, place, 10) == plain.slot(depth, place, 10));
      CHECK(kernels::slot_bucket(hash.slot(depth, row, 10)) == place / 100);
      CHECK(kernels::slot_bucket(hash.slot(depth, row, 20)) / 2 == place / 100);
    }
  }
  // The plans of a step tell orders apart.
  const std::vector<float> gradient(1000);
  StepRows rows(exec_on(kCpu), kCpu, nullptr, kernels::contiguous(gradient.data(), 1000, 1), 1);
  CHECK(rows.plan(plain, 1, 10, {}).slots != rows.plan(hash, 1, 10, {}).slots);
  CHECK(rows.plan(hash, 1, 10, {}).slots == rows.plan(hash, 1, 10, {}).slots);
  CHECK(rows.plan(hash, 1, 10, {}).slots[order[999]] == hash.slot(0, order[999], 10));
}

Moments ordered_moments(std::vector<int32_t> order) {
  return {CountSketch{.width = 6, .banded = true}, CountMin{.width = 6, .banded = true},
          std::move(order)};
}

TEST_CASE("a table with an order of rows is the one whose rows have that order") {
  for (const int64_t dim : {1, 7, 33}) {
    CAPTURE(dim);
    const Case size{40, dim, 0, 0};
    const std::vector<int32_t> order = shuffled_rows(size.rows);
    const std::vector<int32_t> ranks = inverse_of(order);
    Parameter ordered("table", {size.rows, dim}), sorted("table", {size.rows, dim});
    Optimizer a(Adam{.learning_rate = 0.01f}, 3), b(Adam{.learning_rate = 0.01f}, 3);
    a.add(ordered, ordered_moments(order));
    b.add(sorted, ordered_moments({}));
    const std::vector<Step> steps = random_steps(size, 5);
    for (size_t t = 0; t < steps.size(); ++t) {
      Step moved = steps[t];
      std::vector<std::pair<int64_t, std::vector<double>>> rows;
      for (size_t e = 0; e < moved.items.size(); ++e) {
        rows.emplace_back(ranks[static_cast<size_t>(moved.items[e])], moved.gradient[e]);
      }
      std::sort(rows.begin(), rows.end());
      for (size_t e = 0; e < rows.size(); ++e) {
        std::tie(moved.items[e], moved.gradient[e]) = rows[e];
      }
      give_gradient(ordered, steps[t], size);
      give_gradient(sorted, moved, size);
      for (Optimizer* optimizer : {&a, &b}) {
        optimizer->step();
        optimizer->clear_gradients();
        if (t == 2) CHECK(optimizer->fold() == 2 * 3 * dim * 4);
      }
    }
    const std::vector<float> x = ordered.value.to_vector<float>();
    const std::vector<float> y = sorted.value.to_vector<float>();
    for (int64_t row = 0; row < size.rows; ++row) {
      for (int64_t c = 0; c < dim; ++c) {
        const float moved = y[static_cast<size_t>(ranks[static_cast<size_t>(row)] * dim + c)];
        CHECK(x[static_cast<size_t>(row * dim + c)] == doctest::Approx(moved).epsilon(1e-3));
      }
    }
  }
}

TEST_CASE("an order of rows: by id it changes nothing, and it takes 4 bytes a row, once") {
  const Case size{40, 7, 0, 0};
  std::vector<int32_t> by_id(40);
  std::iota(by_id.begin(), by_id.end(), 0);
  Parameter ordered("table", {size.rows, size.dim}), plain("table", {size.rows, size.dim});
  Optimizer a(Adam{}, 3), b(Adam{}, 3);
  b.add(plain, ordered_moments({}));
  a.add(ordered, ordered_moments(by_id));
  int64_t with = 0, without = 0;
  for (const StateBytes& entry : a.state_bytes()) with += entry.bytes;
  for (const StateBytes& entry : b.state_bytes()) without += entry.bytes;
  CHECK(a.state_bytes().back().name == "table.row_ranks");
  CHECK(a.state_bytes().back().bytes == 160);
  CHECK(with == without + 160);
  StateMemoryContext context{
      "table.second", MomentRole::second, {0.9f, 0.1f, true}, 40, 7, 5, kCpu};
  context.row_ranks = Tensor::from(by_id, {40}, {Category::optimizer_state, "row_ranks"});
  const MemorySpec spec = ordered_moments({}).second;
  CHECK(make_memory(spec, context)->bytes() == planned_bytes(spec, context));
  for (const Step& step : random_steps(size, 5)) {
    for (auto [optimizer, parameter] : {std::pair{&a, &ordered}, std::pair{&b, &plain}}) {
      give_gradient(*parameter, step, size);
      optimizer->step();
      optimizer->clear_gradients();
    }
  }
  CHECK(ordered.value.to_vector<float>() == plain.value.to_vector<float>());
}

TEST_CASE("an order of rows is saved, and another one is refused") {
  const Case size{40, 7, 0, 0};
  const std::vector<Step> steps = random_steps(size, 5);
  const std::vector<int32_t> order = shuffled_rows(size.rows);
  const auto step = [&](Optimizer& optimizer, Parameter& parameter, size_t t) {
    give_gradient(parameter, steps[t], size);
    optimizer.step();
    optimizer.clear_gradients();
  };
  Parameter whole("table", {size.rows, size.dim}), resumed("table", {size.rows, size.dim});
  Optimizer a(Adam{}, 3), b(Adam{}, 99);
  a.add(whole, ordered_moments(order));
  b.add(resumed, ordered_moments(order));
  step(a, whole, 0);
  StateDict state;
  a.save(state);
  for (auto& [name, tensor] : state.tensors) tensor = tensor.clone({Category::data, "saved"});
  resumed.value.copy_from(whole.value);
  b.load(state);
  for (const size_t t : {2u, 4u}) {
    step(a, whole, t);
    step(b, resumed, t);
  }
  CHECK(whole.value.to_vector<float>() == resumed.value.to_vector<float>());

  std::vector<int32_t> exchanged = order;
  std::swap(exchanged[3], exchanged[20]);
  Parameter other("table", {size.rows, size.dim}), unordered("table", {size.rows, size.dim});
  Optimizer c(Adam{}, 3), d(Adam{}, 3);
  c.add(other, ordered_moments(exchanged));
  d.add(unordered, ordered_moments({}));
  const int32_t first = std::min(order[3], order[20]);
  const int place = order[3] == first ? 3 : 20;
  CHECK_THROWS_WITH_AS(
      c.load(state),
      fmt::format("[optimizer] optimizer.table.row_ranks of checkpoint: row {} is at place {}, in "
                  "this optimizer at {}",
                  first, place, 23 - place)
          .c_str(),
      InvalidArgument);
  CHECK_THROWS_WITH_AS(d.load(state),
                       doctest::Contains("an order of rows, this optimizer has none"),
                       InvalidArgument);
  StateDict without;
  d.save(without);
  CHECK_THROWS_WITH_AS(a.load(without),
                       doctest::Contains("no order of rows, this optimizer has one"),
                       InvalidArgument);
}

TEST_CASE("orders that cannot be are refused with a reason") {
  Parameter parameter("table", {4, 3});
  Optimizer optimizer(Adam{}, 1);
  const auto fails = [&](const Moments& moments, const char* reason) {
    CHECK_THROWS_WITH_AS(optimizer.add(parameter, moments), doctest::Contains(reason),
                         InvalidArgument);
  };
  const MemorySpec banded = CountMin{.width = 2, .banded = true};
  fails({Dense{}, CountMin{.width = 2}, {0, 1, 2, 3}}, "no memory of it is banded");
  fails({Dense{}, banded, {0, 1, 2}}, "has 3 rows, the table has 4");
  fails({Dense{}, banded, {0, 1, 4, 3}}, "4 at place 2 is none of the rows 0 to 3");
  fails({Dense{}, banded, {0, -1, 2, 3}}, "-1 at place 1 is none");
  fails({Dense{}, banded, {3, 1, 2, 1}}, "1 at place 3 stands at place 1 already");
  CHECK_NOTHROW(optimizer.add(parameter, {Dense{}, banded, {3, 1, 2, 0}}));
  const kernels::RowHash ranks_without_bands{1, 0, std::vector<int32_t>{0}.data()};
  CHECK_THROWS_WITH_AS(
      kernels::sketch_plan(exec_on(kCpu), ranks_without_bands, 1, 2, {}, nullptr, 0, {}),
      doctest::Contains("without bands"), InvalidArgument);
}

// ---- Folding

// A table that steps by sketches of these widths, folded after some of the steps.
struct Folding {
  Parameter parameter;
  Optimizer optimizer{Adam{.learning_rate = 0.01f}, 3};
  Folding(const Case& size, int64_t width, Reading first, Reading second, bool banded)
      : parameter("table", {size.rows, size.dim}) {
    optimizer.add(parameter,
                  {CountSketch{.depth = 2, .width = width, .reading = first, .banded = banded},
                   CountMin{.depth = 2, .width = width, .reading = second, .banded = banded}});
  }
  void step(const Step& step, const Case& size) {
    give_gradient(parameter, step, size);
    optimizer.step();
    optimizer.clear_gradients();
  }
  std::vector<float> cells(const char* moment) const {
    StateDict state;
    optimizer.save(state);
    return state.tensors.at(fmt::format("optimizer.table.{}.cells", moment)).to_vector<float>();
  }
};

TEST_CASE("a folded linear sketch is the one that its width had from the beginning") {
  for (const bool banded : {false, true}) {
    for (const auto& [size, width] :
         {std::pair(Case{40, 33, 0, 0}, 16), std::pair(Case{40, 33, 0, 0}, 15),
          std::pair(Case{40, 1, 0, 0}, 2), std::pair(Case{3000, 5, 0, 0}, 4096),
          std::pair(Case{3000, 5, 0, 0}, 2056), std::pair(Case{3000, 5, 0, 0}, 2100),
          std::pair(Case{3000, 5, 0, 0}, 1024)}) {
      CAPTURE(banded);
      CAPTURE(width);
      const Reading linear = Reading::linear;
      Folding wide(size, width, linear, linear, banded);
      const int64_t unit = !banded && width >= 1024 ? 32 : 1, units = width / unit;
      const int64_t half = (units + 1) / 2 * unit;
      // Sketches that another width would hash otherwise: folded while they were empty.
      const bool of_its_own = units % 2 == 0 && (unit == 1 || half >= 1024);
      Folding narrow(size, of_its_own ? half : width, linear, linear, banded);
      if (!of_its_own) CHECK(narrow.optimizer.fold() > 0);
      const std::vector<Step> steps = random_steps(size, 5);
      for (const Step& step : steps) {
        wide.step(step, size);
        narrow.step(step, size);
      }
      const int64_t freed = 2 * 2 * (width - half) * size.dim * 4;
      CHECK(wide.optimizer.fold() == freed);
      for (const char* moment : {"first", "second"}) {
        const std::vector<float> a = wide.cells(moment), b = narrow.cells(moment);
        REQUIRE(a.size() == b.size());
        const float largest = std::abs(*std::max_element(
            b.begin(), b.end(), [](float x, float y) { return std::abs(x) < std::abs(y); }));
        for (size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - b[i]) <= 1e-5f * largest);
      }
    }
  }
}

TEST_CASE("sketches of every reading fold and go on, also from a checkpoint") {
  const Case size{300, 70, 0, 0};
  const std::vector<Step> steps = random_steps(size, 5);
  for (const Readings& readings : kReadings) {
    CAPTURE(to_string(readings.first));
    CAPTURE(to_string(readings.second));
    Folding folded(size, 32, readings.first, readings.second, false);
    folded.step(steps[0], size);
    StateDict state;
    folded.optimizer.save(state);
    Folding loaded(size, 8, readings.first, readings.second, false);
    loaded.optimizer.load(state);
    loaded.parameter.value.copy_from(folded.parameter.value);
    CHECK(folded.optimizer.fold() == 2 * 2 * 16 * 70 * 4);
    CHECK(folded.optimizer.fold() == 2 * 2 * 8 * 70 * 4);
    for (const size_t t : {2u, 4u}) {
      folded.step(steps[t], size);
      loaded.step(steps[t], size);
    }
    const std::vector<float> values = folded.parameter.value.to_vector<float>();
    CHECK(values == loaded.parameter.value.to_vector<float>());
    for (const float value : values) REQUIRE(std::isfinite(value));
    Folding other(size, 12, readings.first, readings.second, false);
    CHECK_THROWS_WITH_AS(other.optimizer.load(state),
                         doctest::Contains("a width of 32, this optimizer has 12, and neither"),
                         InvalidArgument);
    // As a run that was folded is resumed.
    StateDict narrow;
    folded.optimizer.save(narrow);
    Folding resumed(size, 32, readings.first, readings.second, false);
    resumed.optimizer.load(narrow);
    resumed.parameter.value.copy_from(folded.parameter.value);
    resumed.step(steps[2], size);
    folded.step(steps[2], size);
    CHECK(resumed.parameter.value.to_vector<float>() == folded.parameter.value.to_vector<float>());
  }
}

TEST_CASE("where there is no memory to fold in, nothing changes") {
  const Case size{300, 70, 0, 0};
  Folding table(size, 32, Reading::wiener, Reading::row_scaled, false);
  table.step(random_steps(size, 5)[0], size);
  const std::vector<float> before = table.cells("first");
  allocator().release_cached();
  allocator().set_limit(allocator().current().total + 100);
  CHECK_THROWS_AS(table.optimizer.fold(), OutOfMemory);
  allocator().set_limit(0);
  CHECK(table.cells("first") == before);
  CHECK(table.optimizer.foldable_bytes() == 2 * 2 * 16 * 70 * 4);
  table.step(random_steps(size, 5)[2], size);
}

TEST_CASE("narrow tables have banded first moments, too") {
  Parameter parameter("table", {100, 9});
  Optimizer optimizer(Momentum{}, 1);
  optimizer.add(parameter, {CountSketch{.ratio = 0.2, .banded = true}, None{}});
  CHECK(optimizer.state_bytes()[0].bytes <= 100 * 9 * 4 / 5);
}

TEST_CASE("sketches of any width fold, down to one bucket or block") {
  for (const bool banded : {false, true}) {
    for (const int64_t width : {7, 1024, 2100, 5984}) {
      CAPTURE(banded);
      CAPTURE(width);
      const Case size{4000, 3, 0, 0};
      const std::vector<Step> steps = random_steps(size, 3);
      Folding folded(size, width, Reading::wiener, Reading::row_scaled, banded);
      const int64_t unit = !banded && width >= 1024 ? 32 : 1;
      folded.step(steps[0], size);
      for (int64_t now = width; now > unit;) {
        const int64_t half = (now / unit + 1) / 2 * unit;
        CHECK(folded.optimizer.foldable_bytes() == 2 * 2 * (now - half) * 3 * 4);
        CHECK(folded.optimizer.fold() == 2 * 2 * (now - half) * 3 * 4);
        now = half;
        // Resumed by a sketch of the first width it is the same.
        StateDict state;
        folded.optimizer.save(state);
        Folding resumed(size, width, Reading::wiener, Reading::row_scaled, banded);
        for (auto& [name, tensor] : state.tensors)
          tensor = tensor.clone({Category::workspace, "kept"});
        resumed.optimizer.load(state);
        resumed.parameter.value.copy_from(folded.parameter.value);
        resumed.step(steps[2], size);
        folded.step(steps[2], size);
        CHECK(resumed.parameter.value.to_vector<float>() ==
              folded.parameter.value.to_vector<float>());
      }
      CHECK(folded.optimizer.fold() == 0);
      CHECK(folded.optimizer.foldable_bytes() == 0);
    }
  }
}

TEST_CASE("a folded sketch is not one of the same width that was hashed otherwise") {
  const Case size{300, 3, 0, 0};
  Folding folded(size, 15, Reading::wiener, Reading::row_scaled, false);
  folded.step(random_steps(size, 3)[0], size);
  CHECK(folded.optimizer.fold() > 0);
  StateDict state;
  folded.optimizer.save(state);
  Folding other(size, 8, Reading::wiener, Reading::row_scaled, false);
  CHECK_THROWS_WITH_AS(
      other.optimizer.load(state),
      doctest::Contains("a width of 8, 15 folded 1 times, this optimizer has 8, and neither"),
      InvalidArgument);
}

TEST_CASE("what cannot be folded frees nothing") {
  Folding last({10, 3, 0, 0}, 1, Reading::wiener, Reading::row_scaled, false);
  CHECK(last.optimizer.fold() == 0);
  Parameter parameter("dense", {10, 3});
  Optimizer optimizer(Adam{});
  optimizer.add(parameter);
  CHECK(optimizer.fold() == 0);
}

TEST_CASE("a sketch without collisions is the dense memory") {
  const Case size{6, 33, 3, 4096};
  for (const Pair& pair : pairs()) {
    for (const Readings& readings : kReadings) {
      // One decays rows that are not touched, which the dense memory leaves alone; the other gives
      // small and large inputs the same weight in the shape.
      if (readings.first == Reading::linear || readings.second == Reading::linear) continue;
      if (readings.second == Reading::row_scaled) continue;
      Parameter sketched("table", {size.rows, size.dim});
      Parameter dense("table", {size.rows, size.dim});
      Optimizer a = pair.optimizer(3);
      Optimizer b = pair.optimizer(3);
      const MemorySpec sketch1 = CountSketch{.width = size.width, .reading = readings.first};
      const MemorySpec sketch2 = CountMin{.width = size.width, .reading = readings.second};
      a.add(sketched,
            {pair.scale1 != 0.0 ? sketch1 : None{}, pair.scale2 != 0.0 ? sketch2 : None{}});
      b.add(dense, {Dense{}, Dense{}});
      for (const Step& step : random_steps(size, 11)) {
        give_gradient(sketched, step, size);
        give_gradient(dense, step, size);
        a.step();
        b.step();
        a.clear_gradients();
        b.clear_gradients();
      }
      const std::vector<float> x = sketched.value.to_vector<float>();
      const std::vector<float> y = dense.value.to_vector<float>();
      for (size_t k = 0; k < x.size(); ++k) CHECK(x[k] == doctest::Approx(y[k]).epsilon(1e-4));
    }
  }
}

TEST_CASE("one moment in a sketch beside a dense one, over several pieces of columns") {
  // Adam with buckets for every row on one side: against dense state on both sides.
  const Case size{12, 150, 3, 4096};
  const CountSketch first{.width = size.width};
  const CountMin second{.width = size.width, .reading = Reading::mean_delta};
  const std::vector<Moments> mixed{{Dense{}, second}, {first, Dense{}}, {first, second}};
  for (const Moments& moments : mixed) {
    Parameter sketched("table", {size.rows, size.dim});
    Parameter dense("table", {size.rows, size.dim});
    Optimizer a(Adam{.learning_rate = 0.01f, .weight_decay = 0.1f}, 3);
    Optimizer b(Adam{.learning_rate = 0.01f, .weight_decay = 0.1f}, 3);
    a.add(sketched, moments);
    b.add(dense);
    sketched.value.fill(0.5f);
    dense.value.fill(0.5f);
    for (const Step& step : random_steps(size, 13)) {
      for (auto [optimizer, parameter] : {std::pair{&a, &sketched}, std::pair{&b, &dense}}) {
        give_gradient(*parameter, step, size);
        optimizer->step();
        optimizer->clear_gradients();
      }
    }
    const std::vector<float> x = sketched.value.to_vector<float>();
    const std::vector<float> y = dense.value.to_vector<float>();
    for (size_t k = 0; k < x.size(); ++k) CHECK(x[k] == doctest::Approx(y[k]).epsilon(1e-4));
  }
}

std::vector<float> train(Reading reading1, Reading reading2, int threads) {
  const tbb::global_control control(tbb::global_control::max_allowed_parallelism,
                                    static_cast<size_t>(threads));
  const Case size{3000, 70, 3, 200};
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer(Adam{}, 1);
  optimizer.add(parameter, {CountSketch{.width = size.width, .reading = reading1},
                            CountMin{.width = size.width, .reading = reading2}});
  for (const Step& step : random_steps(size, 2)) {
    give_gradient(parameter, step, size);
    optimizer.step();
    optimizer.clear_gradients();
  }
  return parameter.value.to_vector<float>();
}

TEST_CASE("the same bits with one and two threads") {
  for (const Readings& readings : kReadings) {
    CHECK(train(readings.first, readings.second, 1) == train(readings.first, readings.second, 2));
  }
}

StateMemoryContext context(int64_t rows, int64_t dim, MomentRole role) {
  return {"table.moment", role, {0.9f, 0.1f, role == MomentRole::second}, rows, dim, 7, kCpu};
}

TEST_CASE("the bytes of a sketch, all included, stay within the ratio") {
  for (const double ratio : {0.03, 0.2, 0.5}) {
    for (const Reading reading : {Reading::mean_delta, Reading::row_scaled}) {
      const auto memory = make_memory(CountMin{.ratio = ratio, .reading = reading},
                                      context(33278, 200, MomentRole::second));
      const int64_t dense = 33278 * 200 * 4;
      CHECK(static_cast<double>(memory->bytes()) <= ratio * static_cast<double>(dense));
      CHECK(static_cast<double>(memory->bytes()) >=
            ratio * static_cast<double>(dense) - 3 * kernels::kHashBlock * 800);
    }
  }
  const auto bytes = [](const CountSketch& spec) {
    return make_memory(spec, context(1000, 100, MomentRole::first))->bytes();
  };
  CHECK(bytes({.width = 16, .reading = Reading::mean_delta}) == 3 * 16 * 100 * 4);
  CHECK(bytes({.width = 16, .reading = Reading::wiener}) == 16 * 100 * 4 + 2 * 1000 * 4);
}

TEST_CASE("planned bytes are those that a memory takes") {
  for (const char* text : {"dense", "sketch:0.2", "sketch:0.01", "sketch:0.1,depth=3",
                           "sketch:0.2,width=100", "sketch:0.2,reading=mean_delta"}) {
    for (const MomentRole role : {MomentRole::first, MomentRole::second}) {
      for (const int64_t dim : {7, 33, 1024}) {
        CAPTURE(text);
        CAPTURE(dim);
        const MemorySpec spec = parse_memory(text, role);
        const StateMemoryContext table = context(50000, dim, role);
        const auto memory = make_memory(spec, table);
        CHECK(planned_bytes(spec, table) == memory->bytes());
        const auto* sketch = dynamic_cast<const SketchMemory*>(memory.get());
        if (sketch == nullptr) continue;
        const SketchGeometry planned = role == MomentRole::first
                                           ? planned_geometry(table, std::get<CountSketch>(spec))
                                           : planned_geometry(table, std::get<CountMin>(spec));
        CHECK(planned.depth == sketch->geometry().depth);
        CHECK(planned.width == sketch->geometry().width);
      }
    }
  }
  CHECK(planned_bytes(None{}, context(10, 3, MomentRole::first)) == 0);
  CHECK_THROWS_AS(planned_bytes(CountMin{.ratio = 1e-6}, context(10, 3, MomentRole::second)),
                  InvalidArgument);
}

struct StepPeaks {
  int64_t workspace;
  int64_t index;
};

// Of a step with all rows active.
StepPeaks peaks_of_step(const Moments& moments, const Case& size) {
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer(Adam{}, 1);
  optimizer.add(parameter, moments);
  give_gradient(parameter, random_steps(size, 2).back(), size);  // dense
  allocator().reset_peak();
  const MemoryFigures before = allocator().current();
  optimizer.step();
  const MemoryFigures peak = allocator().peak();
  return {peak[Category::workspace] - before[Category::workspace],
          peak[Category::index] - before[Category::index]};
}

// Arrays of the plan for each row and depth, and what is sorted a depth at a time.
int64_t plan_bytes(const Case& size, int64_t depths) {
  constexpr int64_t kHistogram = 4096;
  return depths * (size.rows * 4 * 4 + 4) + size.rows * (4 + 2 * 8) + kHistogram;
}

TEST_CASE("a step's workspace is a row for each bucket that rows share") {
  const Case size{5000, 512, 3, 100};
  const StepPeaks used = peaks_of_step(
      {CountSketch{.depth = 3, .width = size.width}, CountMin{.depth = 1, .width = size.width}},
      size);
  const int64_t sums = (3 + 1) * size.width * size.dim * 4;  // of all buckets
  CHECK(used.workspace == sums);
  const int64_t turns = (3 + 1) * size.rows * 8;
  CHECK(used.index <= plan_bytes(size, 3 + 1) + turns);
  CHECK(used.index >= (3 + 1) * size.rows * 4 * 4 + turns);
}

TEST_CASE("where sketches of depth 1 share a plan, a step's workspace is one row each") {
  const Case size{5000, 512, 3, 100};
  const StepPeaks used =
      peaks_of_step({CountSketch{.width = size.width}, CountMin{.width = size.width}}, size);
  CHECK(used.workspace == 2 * size.dim * 4);
  CHECK(used.index <= plan_bytes(size, 1));
}

TEST_CASE("state of rows that are not touched") {
  // Lazy: dense, and sketches whose buckets are not shared. The linear reading decays all rows.
  for (const Readings& readings : kReadings) {
    const Reading reading = readings.first;
    CAPTURE(to_string(reading));
    const Case size{4, 3, 3, 4096};
    Parameter parameter("table", {size.rows, size.dim});
    Optimizer optimizer(Momentum{.learning_rate = 1.0f}, 1);
    optimizer.add(parameter, {CountSketch{.width = size.width, .reading = reading}, None{}});
    const auto step_row = [&](int64_t row, double value) {
      give_gradient(parameter, {false, {row}, {{value, value, value}}}, size);
      optimizer.step();
      optimizer.clear_gradients();
    };
    step_row(0, 1.0);
    const std::vector<float> after_first = parameter.value.to_vector<float>();
    step_row(1, 1.0);
    CHECK(parameter.value.to_vector<float>()[0] == after_first[0]);  // the parameter never moves
    step_row(0, 0.0);
    const float moved = after_first[0] - parameter.value.to_vector<float>()[0];
    CHECK(moved == doctest::Approx(reading == Reading::linear ? 0.81 : 0.9));
  }
}

// What a memory holds of a row: its part of [rows, ..] tensors, and the cells of its buckets.
std::vector<float> state_of_row(const StateDict& state, const std::string& moment, int64_t row,
                                const Case& size) {
  const std::string prefix = "optimizer.table." + moment + ".";
  std::vector<float> result;
  for (const auto& [name, tensor] : state.tensors) {
    if (name.rfind(prefix, 0) != 0) continue;
    if (name != prefix + "cells") {
      const std::vector<float> part = tensor.rows(row, 1).to_vector<float>();
      result.insert(result.end(), part.begin(), part.end());
      continue;
    }
    const uint64_t seed = state.unsigned_integer(prefix + "hash_seed");
    const int64_t width = tensor.size(1);
    for (int32_t j = 0; j < tensor.size(0); ++j) {
      const int64_t bucket = kernels::slot_bucket(kernels::sketch_slot(seed, j, row, width));
      const Tensor buckets = tensor.reshape({-1, size.dim});
      const std::vector<float> part = buckets.rows(j * width + bucket, 1).to_vector<float>();
      result.insert(result.end(), part.begin(), part.end());
    }
  }
  return result;
}

TEST_CASE("state of rows that are not touched stays, bit for bit") {
  // Rows of one block: in a sketch of blocks none shares a bucket with another.
  const Case size{8, 70, 0, kernels::kBlockedWidth};
  std::vector<Moments> memories{{Dense{}, Dense{}},
                                {Dense{}, CountMin{.width = size.width}},
                                {CountSketch{.width = size.width}, Dense{}},
                                {CountSketch{.width = size.width}, CountMin{.width = size.width}}};
  for (const Readings& readings : kReadings) {
    // Its decay is one number for all rows.
    if (readings.first == Reading::linear || readings.second == Reading::linear) continue;
    memories.push_back({CountSketch{.width = size.width, .reading = readings.first},
                        CountMin{.width = size.width, .reading = readings.second}});
  }
  const std::vector<Step> steps = random_steps(size, 19);
  const Step& some = steps[2];  // half of the rows
  for (const Moments& moments : memories) {
    CAPTURE(to_string(moments.first));
    CAPTURE(to_string(moments.second));
    Parameter parameter("table", {size.rows, size.dim});
    parameter.value.fill(0.5f);
    Optimizer optimizer(Adam{.learning_rate = 0.01f, .weight_decay = 0.1f}, 1);
    optimizer.add(parameter, moments);
    // All that the rows have, one after the other.
    const auto rows = [&] {
      StateDict state;
      optimizer.save(state);
      std::vector<std::vector<float>> result;
      for (int64_t row = 0; row < size.rows; ++row) {
        std::vector<float> all = parameter.value.rows(row, 1).to_vector<float>();
        for (const char* moment : {"first", "second"}) {
          const std::vector<float> part = state_of_row(state, moment, row, size);
          CHECK(part.size() >= static_cast<size_t>(size.dim));
          all.insert(all.end(), part.begin(), part.end());
        }
        result.push_back(std::move(all));
      }
      return result;
    };
    const auto step = [&](const Step& given) {
      give_gradient(parameter, given, size);
      optimizer.step();
      optimizer.clear_gradients();
    };
    step(steps[0]);
    const auto before = rows();
    step(some);
    const auto after = rows();
    for (int64_t row = 0; row < size.rows; ++row) {
      const bool active = std::count(some.items.begin(), some.items.end(), row) > 0;
      const std::vector<float>& a = before[static_cast<size_t>(row)];
      const std::vector<float>& b = after[static_cast<size_t>(row)];
      REQUIRE(a.size() == b.size());
      CHECK((std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0) == !active);
    }
  }
}

TEST_CASE("cleaning multiplies the sketch every so many steps") {
  Parameter parameter("table", {1, 2});
  Optimizer optimizer(Adagrad{.learning_rate = 1.0f}, 1);
  optimizer.add(
      parameter,
      {None{}, CountMin{.width = 8, .reading = Reading::own_delta, .cleaning = {0.5f, 2}}});
  const auto step = [&] {
    give_gradient(parameter, {false, {0}, {{2.0, 2.0}}}, {1, 2, 3, 8});
    optimizer.step();
    optimizer.clear_gradients();
    StateDict state;
    optimizer.save(state);
    const std::vector<float> cells =
        state.tensors.at("optimizer.table.second.cells").to_vector<float>();
    return *std::max_element(cells.begin(), cells.end());
  };
  CHECK(step() == 4.0f);
  CHECK(step() == 4.0f);  // (4 + 4) / 2
  CHECK(step() == 8.0f);
  CHECK(step() == 6.0f);
}

TEST_CASE("a checkpoint goes on with the same period of cleaning") {
  const auto table = [](Parameter& parameter, int64_t every) {
    auto optimizer = std::make_unique<Optimizer>(Adam{}, 1);
    optimizer->add(parameter, {Dense{}, CountMin{.width = 4, .cleaning = {0.5f, every}}});
    return optimizer;
  };
  Parameter first("table", {10, 3}), second("table", {10, 3});
  StateDict state;
  table(first, 1000)->save(state);
  table(second, 1000)->load(state);
  CHECK_THROWS_WITH_AS(table(second, 100)->load(state),
                       doctest::Contains("cleaned every 1000 steps (0: never), this optimizer "
                                         "cleans every 100"),
                       InvalidArgument);
  CHECK_THROWS_AS(table(second, 0)->load(state), InvalidArgument);
}

TEST_CASE("cleaning multiplies the estimate of a row, in the default reading") {
  constexpr int64_t dim = 70;  // two pieces
  for (const float alpha : {1.0f, 0.5f, 0.0f}) {
    Parameter parameter("table", {1, dim});
    Optimizer optimizer(Adagrad{.learning_rate = 1.0f, .epsilon = 0.0f}, 1);
    optimizer.add(parameter, {None{}, CountMin{.width = 8, .cleaning = {alpha, 1}}});
    std::vector<double> first, second;
    for (int64_t c = 0; c < dim; ++c) {
      first.push_back(1.0 + static_cast<double>(c % 7));
      second.push_back(1.0 + static_cast<double>(c % 3));
    }
    const auto step = [&](const std::vector<double>& gradient) {
      give_gradient(parameter, {false, {0}, {gradient}}, {1, dim, 1, 8});
      optimizer.step();
      optimizer.clear_gradients();
      return parameter.value.to_vector<float>();
    };
    const std::vector<float> before = step(first);
    const std::vector<float> after = step(second);
    for (size_t c = 0; c < dim; ++c) {
      // The row is alone and has had one step, so that the first estimate was exact.
      const double v = static_cast<double>(alpha) * first[c] * first[c] + second[c] * second[c];
      CHECK(before[c] - after[c] == doctest::Approx(second[c] / std::sqrt(v)).epsilon(1e-5));
    }
  }
}

TEST_CASE("a cleaning that falls on a step without active rows is made up for") {
  Parameter parameter("table", {1, 1});
  Optimizer optimizer(Adagrad{.learning_rate = 1.0f}, 1);
  optimizer.add(
      parameter,
      {None{}, CountMin{.width = 8, .reading = Reading::own_delta, .cleaning = {0.5f, 2}}});
  const Case size{1, 1, 3, 8};
  give_gradient(parameter, {false, {0}, {{2.0}}}, size);
  optimizer.step();
  optimizer.clear_gradients();
  optimizer.step();  // no gradient
  give_gradient(parameter, {false, {0}, {{2.0}}}, size);
  optimizer.step();
  StateDict state;
  optimizer.save(state);
  const std::vector<float> cells =
      state.tensors.at("optimizer.table.second.cells").to_vector<float>();
  CHECK(*std::max_element(cells.begin(), cells.end()) == 4.0f);  // (4 + 4) / 2
}

TEST_CASE("sketches that cannot be are refused with a reason") {
  const auto first = [](const MemorySpec& spec) {
    return make_memory(spec, context(100, 4, MomentRole::first));
  };
  const auto second = [](const MemorySpec& spec) {
    return make_memory(spec, context(100, 4, MomentRole::second));
  };
  CHECK_THROWS_WITH_AS(first(CountSketch{.ratio = 0.001}),
                       doctest::Contains("the smallest that works is 0.03"), InvalidArgument);
  CHECK_THROWS_AS(first(CountSketch{.reading = Reading::row_scaled}), InvalidArgument);
  CHECK_THROWS_AS(first(CountSketch{.depth = 1, .reading = Reading::trusted}), InvalidArgument);
  CHECK_THROWS_AS(first(CountMin{}), InvalidArgument);
  CHECK_THROWS_AS(second(CountSketch{}), InvalidArgument);
  Parameter parameter("table", {100, 4});
  Optimizer without_decay(Adam{.beta1 = 0.0f});
  CHECK_THROWS_WITH_AS(
      without_decay.add(parameter, {CountSketch{.reading = Reading::linear}, Dense{}}),
      doctest::Contains("linear of table.first needs a decay above 0"), InvalidArgument);
  Optimizer no_memory(Rmsprop{.decay = 0.0f});
  CHECK_THROWS_AS(no_memory.add(parameter, {None{}, CountMin{.reading = Reading::linear}}),
                  InvalidArgument);
  Optimizer adagrad(Adagrad{});
  CHECK_THROWS_WITH_AS(adagrad.add(parameter, {CountSketch{}, Dense{}}),
                       doctest::Contains("the rule has none"), InvalidArgument);
  CHECK_THROWS_AS(first(CountSketch{.width = int64_t{1} << 32}), InvalidArgument);
  CHECK_THROWS_AS(second(CountMin{.reading = Reading::trusted}), InvalidArgument);
  CHECK_THROWS_AS(second(CountMin{.depth = 9}), InvalidArgument);
}

TEST_CASE("the smallest ratio that is named works") {
  for (const int64_t dim : {1, 4, 200}) {
    try {
      make_memory(CountMin{.ratio = 1e-9, .reading = Reading::row_scaled},
                  context(1000, dim, MomentRole::second));
      FAIL("no error");
    } catch (const InvalidArgument& error) {
      const std::string text = error.what();
      const double ratio = std::stod(text.substr(text.rfind(' ')));
      CHECK_NOTHROW(make_memory(CountMin{.ratio = ratio}, context(1000, dim, MomentRole::second)));
    }
  }
}

}  // namespace
}  // namespace sketchgrad::test
