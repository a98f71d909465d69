// Sketches with cells of 16 bits.
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include "sketchgrad/optim/sketch_memory.h"
#include "sketchgrad/tests/optim/memory_testing.h"

namespace sketchgrad::test {
namespace {

struct Training {
  Case size;
  Parameter parameter;
  Optimizer optimizer{Adam{.learning_rate = 0.01f, .beta2 = 0.99f, .epsilon = 1e-3f}, 1};
  Training(const Case& of, const Moments& moments)
      : size(of), parameter("table", {of.rows, of.dim}) {
    optimizer.add(parameter, moments);
  }
  void step(const Step& step) {
    give_gradient(parameter, step, size);
    optimizer.step();
    optimizer.clear_gradients();
  }
  std::vector<float> values() const { return parameter.value.to_vector<float>(); }
};

Moments sketches(const Case& size, Reading first, Reading second, bool bf16) {
  return {CountSketch{.depth = size.depth, .width = size.width, .reading = first, .bf16 = bf16},
          CountMin{.depth = size.depth, .width = size.width, .reading = second, .bf16 = bf16}};
}

TEST_CASE("bf16 cells: every reading gives what float cells give, to the rounding") {
  for (const auto& [first, second] :
       std::vector<std::pair<Reading, Reading>>{{Reading::requery, Reading::requery},
                                                {Reading::own_delta, Reading::own_delta},
                                                {Reading::mean_delta, Reading::mean_delta},
                                                {Reading::linear, Reading::linear},
                                                {Reading::trusted, Reading::row_scaled},
                                                {Reading::wiener, Reading::row_scaled}}) {
    for (const Case& size : {Case{40, 1, 3, 5}, Case{40, 7, 3, 5}, Case{40, 33, 2, 16},
                             Case{12, 65, 2, 90}, Case{6, 600, 3, 4}, Case{300, 3, 2, 1030}}) {
      CAPTURE(to_string(first));
      CAPTURE(to_string(second));
      CAPTURE(size.dim);
      Training few(size, sketches(size, first, second, true));
      Training floats(size, sketches(size, first, second, false));
      for (const Step& step : random_steps(size, 5)) {
        few.step(step);
        floats.step(step);
      }
      const std::vector<float> a = few.values(), b = floats.values();
      double difference = 0.0, length = 0.0;
      for (size_t i = 0; i < a.size(); ++i) {
        difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
        length += std::pow(static_cast<double>(b[i]), 2);
      }
      CHECK(std::sqrt(difference / length) < 0.06);
      CHECK(difference > 0.0);
    }
  }
}

TEST_CASE("bf16 cells: what a step adds is kept in the mean, however small") {
  // An average of ones, of which a step adds a thousandth: less than a half of a bf16's step.
  const Case size{1, 256, 1, 1};
  Parameter parameter("table", {1, 256});
  Optimizer optimizer(Rmsprop{.learning_rate = 0.0f, .decay = 0.999f}, 1);
  optimizer.add(
      parameter,
      {None{}, CountMin{.depth = 1, .width = 1, .reading = Reading::own_delta, .bf16 = true}});
  const std::vector<double> ones(256, 1.0);
  for (int i = 0; i < 2000; ++i) {
    give_gradient(parameter, {true, {0}, {ones}}, size);
    optimizer.step();
    optimizer.clear_gradients();
  }
  StateDict state;
  optimizer.save(state);
  const std::vector<uint16_t> cells =
      state.tensors.at("optimizer.table.second.cells").to_vector<uint16_t>();
  double mean = 0.0;
  for (const uint16_t cell : cells) {
    mean += static_cast<double>(kernels::bf16_to_float<float>(uint32_t{cell})) / 256.0;
  }
  CHECK(mean == doctest::Approx(1.0 - std::pow(0.999, 2000)).epsilon(0.02));
}

TEST_CASE("bf16 cells: bytes, checkpoints, folding, threads and refusals") {
  const StateMemoryContext context{
      "table.first", MomentRole::first, {0.9f, 0.1f, false}, 1000, 300, 7};
  const MemorySpec spec = parse_memory("sketch:0.1,cells=bf16", MomentRole::first);
  // 120,000 bytes: 16,000 of powers and 173 buckets of 600.
  const auto memory = make_memory(spec, context);
  CHECK(memory->bytes() == 16'000 + 173 * 600);
  CHECK(planned_bytes(spec, context) == memory->bytes());
  CHECK_THROWS_WITH_AS(make_memory(CountSketch{.exact = 0.5, .bf16 = true}, context),
                       doctest::Contains("cells of bf16"), InvalidArgument);

  const Case size{300, 70, 2, 32};
  const Moments moments = sketches(size, Reading::mean_delta, Reading::mean_delta, true);
  const std::vector<Step> steps = random_steps(size, 5);
  Training whole(size, moments), later(size, moments);
  whole.step(steps[0]);
  StateDict state;
  whole.optimizer.save(state);
  for (auto& [name, tensor] : state.tensors) tensor = tensor.clone({Category::workspace, "kept"});
  later.optimizer.load(state);
  later.parameter.value.copy_from(whole.parameter.value);
  for (Training* training : {&whole, &later}) training->step(steps[2]);
  CHECK(later.values() == whole.values());
  CHECK(whole.optimizer.fold() == 2 * 2 * 16 * 70 * 2);
  whole.step(steps[4]);

  Training floats(size, sketches(size, Reading::mean_delta, Reading::mean_delta, false));
  CHECK_THROWS_WITH_AS(floats.optimizer.load(state), doctest::Contains("cells of 2 bytes"),
                       InvalidArgument);

  const auto train = [](size_t threads) {
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
    const Case large{3000, 200, 0, 0};
    Training training(large,
                      {CountSketch{.bf16 = true}, CountMin{.cleaning = {0.5f, 2}, .bf16 = true}});
    for (const Step& step : random_steps(large, 2)) training.step(step);
    return training.values();
  };
  CHECK(train(1) == train(2));
}

}  // namespace
}  // namespace sketchgrad::test
