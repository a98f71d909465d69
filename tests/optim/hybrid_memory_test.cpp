// Sketches beside which the heaviest rows have buckets of their own.
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <set>

#include "sketchgrad/optim/sketch_memory.h"
#include "sketchgrad/tests/optim/memory_testing.h"

namespace sketchgrad::test {
namespace {

double worst_difference(const std::vector<float>& got, const std::vector<float>& expected) {
  REQUIRE(got.size() == expected.size());
  double worst = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    worst =
        std::max(worst, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
  }
  return worst;
}

const std::vector<std::pair<Reading, Reading>> kReadings{
    {Reading::automatic, Reading::automatic},
    {Reading::requery, Reading::requery},
    {Reading::own_delta, Reading::own_delta},
    {Reading::mean_delta, Reading::mean_delta},
    {Reading::bucket_local, Reading::bucket_local}};

TEST_CASE("hybrid: with slots for every row it is dense state, by every reading") {
  // Sets of eight that twelve rows never fill.
  for (const int64_t dim : {1, 7, 33, 300}) {
    const Case size{12, dim, 0, 0};
    for (const auto& [first, second] : kReadings) {
      CAPTURE(to_string(first));
      CAPTURE(dim);
      Parameter hybrid("table", {size.rows, size.dim}), dense("table", {size.rows, size.dim});
      Optimizer a(Adam{.learning_rate = 0.01f, .epsilon = 1e-3f}, 3);
      Optimizer b(Adam{.learning_rate = 0.01f, .epsilon = 1e-3f}, 3);
      const double ratio = 600.0 * (1.0 + 2.0 / static_cast<double>(dim));
      a.add(hybrid, {CountSketch{.ratio = ratio, .reading = first, .exact = 0.9},
                     CountMin{.ratio = ratio, .reading = second, .exact = 0.9}});
      b.add(dense, {Dense{}, Dense{}});
      for (const Step& step : random_steps(size, 5)) {
        give_and_step(a, hybrid, step, size);
        give_and_step(b, dense, step, size);
      }
      CHECK(worst_difference(hybrid.value.to_vector<float>(), dense.value.to_vector<float>()) <
            1e-5);
    }
  }
}

// Row 0 and 1 with gradients a hundred times those of the 200 others, all in every step.
Step heavy_step(const Case& size, std::mt19937& random) {
  std::normal_distribution<double> normal;
  Step step{true, std::vector<int64_t>(static_cast<size_t>(size.rows)), {}};
  std::iota(step.items.begin(), step.items.end(), 0);
  for (const int64_t row : step.items) {
    auto& values = step.gradient.emplace_back();
    for (int64_t c = 0; c < size.dim; ++c) {
      values.push_back(
          static_cast<double>(static_cast<float>((row < 2 ? 100.0 : 1.0) * normal(random))));
    }
  }
  return step;
}

std::vector<int32_t> owners(const Optimizer& optimizer, const char* moment) {
  StateDict state;
  optimizer.save(state);
  return state.tensors.at(fmt::format("optimizer.table.{}.owners", moment)).to_vector<int32_t>();
}

TEST_CASE("hybrid: heavy rows are found and kept exactly, by both moments alike") {
  const Case size{202, 16, 0, 0};
  Parameter hybrid("table", {size.rows, size.dim}), dense("table", {size.rows, size.dim});
  // Decay 0.5: what the sketch gave the rows on their way has gone after 40 steps.
  const Adam rule{.learning_rate = 0.01f, .beta1 = 0.5f, .beta2 = 0.5f, .epsilon = 1e-3f};
  Optimizer a(rule, 3), b(rule, 3);
  a.add(hybrid, {CountSketch{.ratio = 0.3, .exact = 0.3}, CountMin{.ratio = 0.3, .exact = 0.3}});
  b.add(dense, {Dense{}, Dense{}});
  std::mt19937 random(1);
  std::vector<float> before_a, before_b;
  for (int i = 0; i < 60; ++i) {
    const Step step = heavy_step(size, random);
    before_a = hybrid.value.to_vector<float>();
    before_b = dense.value.to_vector<float>();
    give_and_step(a, hybrid, step, size);
    give_and_step(b, dense, step, size);
  }
  const std::vector<int32_t> chosen = owners(a, "first");
  CHECK(chosen == owners(a, "second"));
  CHECK(std::set<int32_t>(chosen.begin(), chosen.end()).size() == chosen.size());
  CHECK(std::count(chosen.begin(), chosen.end(), 0) == 1);
  CHECK(std::count(chosen.begin(), chosen.end(), 1) == 1);
  const std::vector<float> after_a = hybrid.value.to_vector<float>();
  const std::vector<float> after_b = dense.value.to_vector<float>();
  for (size_t i = 0; i < static_cast<size_t>(2 * size.dim); ++i) {
    CHECK(after_a[i] - before_a[i] == doctest::Approx(after_b[i] - before_b[i]).epsilon(1e-3));
  }
}

TEST_CASE("hybrid: bytes, planned and taken, and refusals") {
  const StateMemoryContext first{
      "table.first", MomentRole::first, {0.9f, 0.1f, false}, 1000, 300, 7};
  const MemorySpec spec = parse_memory("hybrid:0.1", MomentRole::first);
  const auto memory = make_memory(spec, first);
  // 120,000 bytes: 16,000 of powers; 52,000 for 5 sets of 8 (300 + 2) floats; 45 buckets.
  CHECK(memory->bytes() == 1000 * 16 + 5 * 8 * (300 + 2) * 4 + 46 * 300 * 4);
  CHECK(planned_bytes(spec, first) == memory->bytes());
  CHECK_THROWS_WITH_AS(make_memory(parse_memory("hybrid:0.02", MomentRole::first), first),
                       doctest::Contains("8 exact rows"), InvalidArgument);
  CHECK_THROWS_WITH_AS(make_memory(CountSketch{.depth = 3, .exact = 0.5}, first),
                       doctest::Contains("depth 1 and a ratio"), InvalidArgument);
  StateMemoryContext second = first;
  second.role = MomentRole::second;
  CHECK_THROWS_WITH_AS(make_memory(parse_memory("hybrid:0.1,clean=0.5/100", second.role), second),
                       doctest::Contains("cleaning would take from exact rows"), InvalidArgument);
  // The smallest ratio that the message gives works.
  try {
    make_memory(parse_memory("hybrid:0.02", MomentRole::first), first);
  } catch (const InvalidArgument& error) {
    const std::string text = error.what();
    const double least = std::stod(text.substr(text.rfind(' ')));
    make_memory(CountSketch{.ratio = least, .exact = 0.5}, first);
    CHECK_THROWS_AS(make_memory(CountSketch{.ratio = least - 3e-6, .exact = 0.5}, first),
                    InvalidArgument);
  }
}

TEST_CASE("hybrid: every ratio from the smallest on works, whatever the share of exact rows") {
  const StateMemoryContext context{"t", MomentRole::first, {0.9f, 0.1f, false}, 402, 64, 7};
  for (const double exact : {0.1, 0.5, 0.99}) {
    CAPTURE(exact);
    bool works = false;
    for (int i = 1; i <= 500; ++i) {
      const MemorySpec spec = CountSketch{.ratio = i / 500.0, .exact = exact};
      try {
        const int64_t bytes = planned_bytes(spec, context);
        CHECK(bytes <= i * 402 * 64 * 4 / 500);
        works = true;
      } catch (const InvalidArgument&) {
        CHECK_FALSE(works);
      }
    }
    CHECK(works);
  }
}

TEST_CASE(
    "hybrid: of the linear reading exact rows stay so when the pending decay is multiplied in") {
  const Case size{12, 33, 0, 0};
  Parameter hybrid("table", {size.rows, size.dim}), dense("table", {size.rows, size.dim});
  Optimizer a(Momentum{.learning_rate = 0.01f}, 3), b(Momentum{.learning_rate = 0.01f}, 3);
  a.add(hybrid, {CountSketch{.ratio = 600.0, .reading = Reading::linear, .exact = 0.9}, None{}});
  b.add(dense, {Dense{}, None{}});
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {  // 0.9^263 is below 1e-12
    const Step step = heavy_step(size, random);
    give_and_step(a, hybrid, step, size);
    give_and_step(b, dense, step, size);
  }
  const std::vector<float> x = hybrid.value.to_vector<float>(), y = dense.value.to_vector<float>();
  for (size_t i = 0; i < x.size(); ++i) CHECK(x[i] == doctest::Approx(y[i]).epsilon(1e-3));
}

struct Training {
  Parameter parameter;
  Optimizer optimizer;
  explicit Training(const Case& size, const char* memory = "hybrid:0.3", uint64_t seed = 1)
      : parameter("table", {size.rows, size.dim}), optimizer(Adam{}, seed) {
    optimizer.add(parameter, {parse_memory(memory, MomentRole::first),
                              parse_memory(memory, MomentRole::second)});
  }
};

TEST_CASE("hybrid: the same bits with one and two threads") {
  const Case size{3000, 70, 0, 0};
  const auto train = [&](size_t threads) {
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
    Training training(size);
    for (const Step& step : random_steps(size, 2)) {
      give_and_step(training.optimizer, training.parameter, step, size);
    }
    return training.parameter.value.to_vector<float>();
  };
  CHECK(train(1) == train(2));
}

TEST_CASE("hybrid: saved and loaded it goes on bit for bit, folded it keeps its heavy rows") {
  const Case size{300, 70, 0, 0};
  const std::vector<Step> steps = random_steps(size, 4);
  Training through(size);
  for (const int i : {0, 2})
    give_and_step(through.optimizer, through.parameter, steps[static_cast<size_t>(i)], size);
  StateDict shared;
  through.optimizer.save(shared);
  StateDict state = shared;
  for (auto& [name, tensor] : state.tensors) tensor = tensor.clone({Category::workspace, "kept"});
  Training later(size, "hybrid:0.3", 2);  // hashes are those of the checkpoint
  later.optimizer.load(state);
  later.parameter.value.copy_from(through.parameter.value);
  give_and_step(later.optimizer, later.parameter, steps[4], size);
  give_and_step(through.optimizer, through.parameter, steps[4], size);
  CHECK(later.parameter.value.to_vector<float>() == through.parameter.value.to_vector<float>());

  Training other(size, "hybrid:0.3,exact=0.2");
  CHECK_THROWS_WITH_AS(other.optimizer.load(state), doctest::Contains("exact rows"),
                       InvalidArgument);

  for (const auto& [owner, reason] :
       {std::pair(int32_t{300}, "row 300 of 300"), std::pair(int32_t{-2}, "row -2"),
        std::pair(owners(later.optimizer, "first").back(), "another")}) {
    StateDict damaged = state;
    std::vector<int32_t> wrong =
        state.tensors.at("optimizer.table.first.owners").to_vector<int32_t>();
    wrong[0] = owner;
    damaged.tensors["optimizer.table.first.owners"] = Tensor::from(
        wrong, {static_cast<int64_t>(wrong.size()) / 8, 8}, {Category::workspace, "owners"});
    Training victim(size);
    CHECK_THROWS_WITH_AS(victim.optimizer.load(damaged), doctest::Contains(reason), DataError);
  }

  const auto exact_cells = [&](const Optimizer& optimizer) {
    StateDict now;
    optimizer.save(now);
    const std::vector<float> cells =
        now.tensors.at("optimizer.table.first.cells").to_vector<float>();
    const int64_t count = now.integer("optimizer.table.first.heavy_rows") * size.dim;
    return std::vector<float>(cells.end() - count, cells.end());
  };
  const std::vector<float> before = exact_cells(through.optimizer);
  const std::vector<int32_t> rows = owners(through.optimizer, "first");
  const int64_t bytes = through.optimizer.foldable_bytes();
  REQUIRE(bytes > 0);
  CHECK(through.optimizer.fold() == bytes);
  CHECK(exact_cells(through.optimizer) == before);
  CHECK(owners(through.optimizer, "first") == rows);
  give_and_step(through.optimizer, through.parameter, steps[0], size);
}

TEST_CASE("hybrid: moments of as many slots choose alike, also after a step that failed") {
  const Case size{60, 33, 0, 0};
  const std::vector<Step> steps = random_steps(size, 4);
  int64_t failed = 0;
  for (int64_t allocations = 0;; ++allocations) {
    CAPTURE(allocations);
    Training training(size, "hybrid:0.6");
    give_and_step(training.optimizer, training.parameter, steps[0], size);
    allocator().set_limit(1, allocations);
    bool done = true;
    try {
      give_gradient(training.parameter, steps[2], size);
      training.optimizer.step();
    } catch (const OutOfMemory&) {
      done = false;
      ++failed;
    }
    allocator().set_limit(0);
    if (done) break;
    training.optimizer.clear_gradients();
    give_and_step(training.optimizer, training.parameter, steps[4], size);
    StateDict state;
    training.optimizer.save(state);
    const auto weights = [&](const char* moment) {
      return state.tensors.at(fmt::format("optimizer.table.{}.weights", moment)).to_vector<float>();
    };
    CHECK(owners(training.optimizer, "first") == owners(training.optimizer, "second"));
    CHECK(weights("first") == weights("second"));
  }
  CHECK(failed > 20);
}

TEST_CASE("hybrid: a step without gradient changes nothing") {
  const Case size{50, 33, 0, 0};
  Training training(size, "hybrid:0.6");
  const std::vector<Step> steps = random_steps(size, 4);
  give_and_step(training.optimizer, training.parameter, steps[2], size);
  const std::vector<int32_t> before = owners(training.optimizer, "first");
  Step nothing = steps[0];
  for (auto& row : nothing.gradient) std::fill(row.begin(), row.end(), 0.0);
  give_and_step(training.optimizer, training.parameter, nothing, size);
  CHECK(owners(training.optimizer, "first") == before);
}

}  // namespace
}  // namespace sketchgrad::test
