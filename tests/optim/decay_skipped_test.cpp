// Rows that row-sparse steps left out, decayed by as many steps.
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include "sketchgrad/optim/sketch_memory.h"
#include "sketchgrad/tests/optim/memory_testing.h"

namespace sketchgrad::test {
namespace {

// Row-sparse steps of some rows, then one of all.
std::vector<Step> sparse_steps(const Case& size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<Step> steps;
  for (int t = 0; t < 12; ++t) {
    Step step{false, {}, {}};
    for (int64_t row = 0; row < size.rows; ++row) {
      const bool last = t == 11;
      if (!last && random() % 4 != 0) continue;
      step.items.push_back(row);
      auto& values = step.gradient.emplace_back();
      const double scale = std::pow(10.0, -static_cast<double>(row % 3));
      for (int64_t c = 0; c < size.dim; ++c) {
        values.push_back(static_cast<double>(static_cast<float>(scale * normal(random))));
      }
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

// The same with gradients of zero for the rows that it leaves out.
Step filled(const Step& step, const Case& size) {
  Step result{true, {}, {}};
  for (int64_t row = 0; row < size.rows; ++row) {
    const auto at = std::find(step.items.begin(), step.items.end(), row);
    result.items.push_back(row);
    result.gradient.push_back(at != step.items.end()
                                  ? step.gradient[static_cast<size_t>(at - step.items.begin())]
                                  : std::vector<double>(static_cast<size_t>(size.dim), 0.0));
  }
  return result;
}

// The move of the last step. `filled_steps`: all rows are in every step.
std::vector<float> last_move(const Case& size, const Moments& own, bool filled_steps) {
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer(Adam{.learning_rate = 0.01f, .beta1 = 0.8f, .beta2 = 0.9f, .epsilon = 1e-3f},
                      3);
  optimizer.add(parameter, own);
  std::vector<float> before, after;
  for (const Step& step : sparse_steps(size, 7)) {
    before = parameter.value.to_vector<float>();
    give_and_step(optimizer, parameter, filled_steps ? filled(step, size) : step, size);
  }
  after = parameter.value.to_vector<float>();
  for (size_t i = 0; i < after.size(); ++i) after[i] -= before[i];
  return after;
}

double relative_difference(const std::vector<float>& got, const std::vector<float>& expected) {
  double difference = 0.0, length = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - static_cast<double>(expected[i]), 2);
    length += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / length);
}

TEST_CASE("decay_skipped: as if the rows had been stepped without gradient") {
  for (const int64_t dim : {1, 7, 33, 300}) {
    const Case size{12, dim, 0, 0};
    // Sketches without collisions.
    const CountSketch wide1{.ratio = 600.0 * (1.0 + 2.0 / static_cast<double>(dim)), .exact = 0.9};
    const CountMin wide2{.ratio = wide1.ratio, .exact = 0.9};
    const auto own1 = [](Reading reading) {
      return CountSketch{.depth = 1, .width = 4096, .reading = reading};
    };
    const auto own2 = [](Reading reading) {
      return CountMin{.depth = 1, .width = 4096, .reading = reading};
    };
    const std::vector<std::pair<Moments, double>> cases{
        {{Dense{}, Dense{}}, 1e-4},
        {{Dense{}, RowWise{}}, 1e-4},
        {{Bf16{}, Bf16{}}, 0.03},
        {{Int8{}, Int8{}}, 0.15},
        {{wide1, wide2}, 1e-3},
        {{own1(Reading::wiener), Dense{}}, 0.02},
        {{own1(Reading::own_delta), own2(Reading::own_delta)}, 1e-3},
        {{own1(Reading::mean_delta), own2(Reading::mean_delta)}, 1e-3},
        {{own1(Reading::requery), own2(Reading::requery)}, 1e-3}};
    for (const auto& [moments, tolerance] : cases) {
      CAPTURE(to_string(moments.first));
      CAPTURE(to_string(moments.second));
      CAPTURE(dim);
      const bool by_rows = std::holds_alternative<RowWise>(moments.second);
      const std::vector<float> expected =
          last_move(size, by_rows ? moments : Moments{}, /*filled_steps=*/true);
      Moments skipped = moments;
      skipped.decay_skipped = true;
      CHECK(relative_difference(last_move(size, skipped, false), expected) < tolerance);
    }
    // Without it the moments are others.
    CHECK(relative_difference(last_move(size, {}, false), last_move(size, {}, true)) > 0.1);
  }
}

TEST_CASE("decay_skipped: rank-one factors describe the matrix whose rows decayed") {
  const Case size{12, 33, 0, 0};
  Parameter parameter("table", {size.rows, size.dim});
  constexpr float kDecay = 0.9f;
  Optimizer optimizer(Rmsprop{.learning_rate = 1.0f, .decay = kDecay, .epsilon = 0.0f}, 3);
  optimizer.add(parameter, {.first = None{}, .second = RankOne{}, .decay_skipped = true});
  Values matrix(12, std::vector<double>(33));
  std::vector<int64_t> last(12);
  int64_t t = 0;
  for (const Step& step : sparse_steps(size, 9)) {
    ++t;
    const std::vector<float> before = parameter.value.to_vector<float>();
    give_and_step(optimizer, parameter, step, size);
    const std::vector<float> after = parameter.value.to_vector<float>();
    for (size_t e = 0; e < step.items.size(); ++e) {
      const auto row = static_cast<size_t>(step.items[e]);
      const double decay =
          std::pow(static_cast<double>(kDecay), static_cast<double>(t - last[row]));
      last[row] = t;
      for (size_t c = 0; c < 33; ++c) {
        matrix[row][c] = decay * matrix[row][c] +
                         (1.0 - static_cast<double>(kDecay)) * std::pow(step.gradient[e][c], 2);
      }
    }
    std::vector<double> rows(12), columns(33);
    double total = 0.0;
    for (size_t r = 0; r < 12; ++r) {
      for (size_t c = 0; c < 33; ++c) {
        rows[r] += matrix[r][c];
        columns[c] += matrix[r][c];
        total += matrix[r][c];
      }
    }
    for (size_t r = 0; r < 12; ++r) {
      for (size_t c = 0; c < 33; ++c)
        matrix[r][c] = total > 0.0 ? rows[r] * columns[c] / total : 0.0;
    }
    for (size_t e = 0; e < step.items.size(); ++e) {
      for (size_t c = 0; c < 33; ++c) {
        const size_t i = static_cast<size_t>(step.items[e]) * 33 + c;
        const double v = matrix[static_cast<size_t>(step.items[e])][c];
        CHECK(static_cast<double>(before[i]) - static_cast<double>(after[i]) ==
              doctest::Approx(step.gradient[e][c] / std::sqrt(v)).epsilon(2e-3));
      }
    }
  }
}

TEST_CASE("decay_skipped: bytes, checkpoints and refusals") {
  const Case size{30, 70, 0, 0};
  const std::vector<Step> steps = sparse_steps(size, 4);
  const auto make = [](Parameter& parameter, bool skipped) {
    Optimizer optimizer(Adam{}, 1);
    optimizer.add(parameter, {.decay_skipped = skipped});
    return optimizer;
  };
  Parameter whole("table", {size.rows, size.dim}), second("table", {size.rows, size.dim});
  Optimizer through = make(whole, true);
  int64_t bytes = 0;
  for (const StateBytes& part : through.state_bytes()) bytes += part.bytes;
  CHECK(bytes == 2 * 30 * 70 * 4 + 30 * 4);
  for (size_t i = 0; i < 5; ++i) give_and_step(through, whole, steps[i], size);
  StateDict state;
  through.save(state);
  for (auto& [name, tensor] : state.tensors) tensor = tensor.clone({Category::workspace, "kept"});
  Optimizer later = make(second, true);
  later.load(state);
  second.value.copy_from(whole.value);
  for (size_t i = 5; i < steps.size(); ++i) {
    give_and_step(through, whole, steps[i], size);
    give_and_step(later, second, steps[i], size);
  }
  CHECK(second.value.to_vector<float>() == whole.value.to_vector<float>());

  Parameter other("table", {size.rows, size.dim});
  Optimizer without = make(other, false);
  CHECK_THROWS_WITH_AS(without.load(state), doctest::Contains("table.last_steps"), InvalidArgument);
  StateDict plain;
  without.save(plain);
  CHECK_THROWS_WITH_AS(later.load(plain), doctest::Contains("no optimizer.table.last_steps"),
                       InvalidArgument);

  const auto refused = [&](const Moments& moments, const char* reason) {
    Parameter parameter("table", {300, 70});
    Optimizer optimizer(Adam{}, 1);
    CHECK_THROWS_WITH_AS(optimizer.add(parameter, moments), doctest::Contains(reason),
                         InvalidArgument);
  };
  refused({.second = Sm3Covers{}, .decay_skipped = true}, "bounds of columns");
  refused({.first = CountSketch{.reading = Reading::linear}, .decay_skipped = true},
          "it decays all rows");
  refused({.second = CountMin{.reading = Reading::bucket_local}, .decay_skipped = true},
          "by one factor");
}

TEST_CASE("decay_skipped: the same bits with one and two threads") {
  const Case size{3000, 70, 0, 0};
  for (const char* memory : {"dense", "rank1", "rank1:l2", "sketch:0.3", "hybrid:0.3"}) {
    const auto train = [&](size_t threads) {
      const tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
      Parameter parameter("table", {size.rows, size.dim});
      Optimizer optimizer(Adam{}, 1);
      optimizer.add(parameter, {parse_memory(memory, MomentRole::first),
                                parse_memory(memory, MomentRole::second),
                                {},
                                true});
      for (const Step& step : random_steps(size, 2)) {
        give_and_step(optimizer, parameter, step, size);
      }
      return parameter.value.to_vector<float>();
    };
    CHECK(train(1) == train(2));
  }
}

}  // namespace
}  // namespace sketchgrad::test
