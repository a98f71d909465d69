#include "sketchgrad/optim/sketch_telemetry.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "sketchgrad/optim/sgd.h"
#include "sketchgrad/tests/optim/memory_testing.h"

namespace sketchgrad::test {
namespace {

constexpr uint64_t kSeed = 4;

struct Readings {
  Reading first;
  Reading second;
};
const std::vector<Readings> kReadings{
    {Reading::requery, Reading::requery},       {Reading::own_delta, Reading::own_delta},
    {Reading::mean_delta, Reading::mean_delta}, {Reading::bucket_local, Reading::bucket_local},
    {Reading::linear, Reading::linear},         {Reading::trusted, Reading::row_scaled},
    {Reading::wiener, Reading::row_scaled}};

Moments sketches(const Case& size, const Readings& readings, bool banded = false,
                 Cleaning cleaning = {}) {
  return {
      CountSketch{
          .depth = size.depth, .width = size.width, .reading = readings.first, .banded = banded},
      CountMin{.depth = size.depth,
               .width = size.width,
               .reading = readings.second,
               .cleaning = cleaning,
               .banded = banded}};
}

// A table, its optimizer and, with rows > 0, the telemetry.
struct Run {
  Run(const Case& of, const Moments& moments, int64_t rows,
      const std::function<Optimizer(uint64_t)>& make = pairs().back().optimizer)
      : size(of), parameter("table", {of.rows, of.dim}), optimizer(make(17)) {
    optimizer.add(parameter, moments);
    if (rows > 0) telemetry.emplace(optimizer, rows, kSeed);
  }
  void step(const Step& with) {
    give_gradient(parameter, with, size);
    if (telemetry) telemetry->step();
    optimizer.step();
    optimizer.clear_gradients();
  }
  StateDict state() const {
    StateDict state;
    optimizer.save(state);
    if (telemetry) telemetry->save(state);
    for (auto& [name, tensor] : state.tensors) {
      tensor = tensor.clone({Category::workspace, "test"});
    }
    return state;
  }
  // Rows of the reservoir.
  std::vector<int64_t> rows() const {
    std::vector<int64_t> result;
    for (const int32_t row :
         state().tensors.at("optimizer.telemetry.table.rows").to_vector<int32_t>()) {
      if (row >= 0) result.push_back(row);
    }
    return result;
  }

  Case size;
  Parameter parameter;
  Optimizer optimizer;
  std::optional<SketchTelemetry> telemetry;
};

bool same(const StateDict& a, const StateDict& b) {
  if (a.metadata != b.metadata || a.tensors.size() != b.tensors.size()) return false;
  return std::all_of(a.tensors.begin(), a.tensors.end(), [&](const auto& entry) {
    const Tensor& other = b.tensors.at(entry.first);
    return entry.second.shape() == other.shape() &&
           std::memcmp(entry.second.raw(), other.raw(), static_cast<size_t>(other.bytes())) == 0;
  });
}

bool same(const std::vector<SketchError>& a, const std::vector<SketchError>& b) {
  return std::equal(
      a.begin(), a.end(), b.begin(), b.end(), [](const SketchError& x, const SketchError& y) {
        return x.moment == y.moment && x.rows == y.rows && x.error.absolute == y.error.absolute &&
               x.error.relative == y.error.relative;
      });
}

// One moment in double: the sketch, and the exact state.
struct ReferenceMoment {
  ReferenceMemory sketch;
  Values exact;
  double decay, scale;
  bool squared;

  void step(const Step& with, int64_t t) {
    Values inputs = with.gradient;
    if (squared) {
      for (auto& row : inputs) {
        for (double& g : row) g *= g;
      }
    }
    sketch.step(with.items, inputs, decay, scale, t);
    for (size_t e = 0; e < with.items.size(); ++e) {
      std::vector<double>& row = exact[static_cast<size_t>(with.items[e])];
      for (size_t c = 0; c < row.size(); ++c) row[c] = decay * row[c] + scale * inputs[e][c];
    }
  }
  StateError error(const std::vector<int64_t>& rows) const {
    ReferenceMemory copy = sketch;
    const Values nothing(rows.size(), std::vector<double>(exact[0].size(), 0.0));
    const Values read = copy.step(rows, nothing, 1.0, 0.0, 1);
    double difference = 0, whole = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::vector<double>& row = exact[static_cast<size_t>(rows[r])];
      for (size_t c = 0; c < row.size(); ++c) {
        difference += std::pow(read[r][c] - row[c], 2);
        whole += row[c] * row[c];
      }
    }
    return StateError::of(std::sqrt(difference), std::sqrt(whole));
  }
};

void compare_with_transcription(const Pair& pair, const Case& size, const Readings& readings,
                                int64_t rows) {
  const std::string name = pair.name;
  CAPTURE(name);
  CAPTURE(size.dim);
  CAPTURE(rows);
  CAPTURE(to_string(readings.first));
  CAPTURE(to_string(readings.second));
  Moments moments = sketches(size, readings);
  if (pair.scale1 == 0.0) moments.first = None{};
  if (pair.scale2 == 0.0) moments.second = None{};
  Run run(size, moments, rows, pair.optimizer);
  const StateDict state = run.state();
  std::vector<ReferenceMoment> reference;
  for (const bool second : {false, true}) {
    if ((second ? pair.scale2 : pair.scale1) == 0.0) continue;
    const uint64_t seed = state.unsigned_integer(std::string("optimizer.table.") +
                                                 (second ? "second" : "first") + ".hash_seed");
    reference.push_back({ReferenceMemory({size.depth, size.width, size.dim, seed, !second},
                                         second ? readings.second : readings.first, size.rows),
                         Values(static_cast<size_t>(size.rows),
                                std::vector<double>(static_cast<size_t>(size.dim), 0.0)),
                         second ? pair.decay2 : pair.decay1, second ? pair.scale2 : pair.scale1,
                         second});
  }
  CHECK(run.telemetry->errors().front().rows == 0);
  CHECK(run.telemetry->errors().front().error.relative == 0.0);
  std::vector<Step> steps = random_steps(size, 5);
  std::rotate(steps.begin(), steps.begin() + 1, steps.end());  // all rows active at last
  for (int64_t t = 1; t <= kSteps; ++t) {
    run.step(steps[static_cast<size_t>(t - 1)]);
    for (ReferenceMoment& moment : reference) moment.step(steps[static_cast<size_t>(t - 1)], t);
    std::vector<int64_t> sample = run.rows();
    std::sort(sample.begin(), sample.end());
    const std::vector<SketchError> errors = run.telemetry->errors();
    REQUIRE(errors.size() == reference.size());
    for (size_t i = 0; i < errors.size(); ++i) {
      const StateError wanted = reference[i].error(sample);
      CHECK(errors[i].moment == (reference[i].squared ? "table.second" : "table.first"));
      CHECK(errors[i].rows == std::ssize(sample));
      CHECK(errors[i].error.relative == doctest::Approx(wanted.relative).epsilon(2e-3));
      CHECK(errors[i].error.absolute == doctest::Approx(wanted.absolute).epsilon(2e-3));
    }
  }
  CHECK(run.telemetry->errors().front().rows == std::min(rows, size.rows));
}

TEST_CASE("telemetry: errors against a transcription, every reading, of a sample and of all rows") {
  for (const Pair& pair : pairs()) {
    for (const Case& size : {Case{40, 1, 3, 5}, Case{40, 7, 3, 5}, Case{41, 33, 2, 16},
                             Case{12, 65, 3, 90}, Case{4, 300, 2, 3}}) {
      for (const Readings& readings : kReadings) {
        for (const int64_t rows : {int64_t{1}, int64_t{3}, size.rows, int64_t{1000}}) {
          compare_with_transcription(pair, size, readings, rows);
        }
      }
    }
  }
}

void check_that_asking_changes_nothing(const Case& size, const Moments& moments) {
  CAPTURE(to_string(moments.first));
  CAPTURE(to_string(moments.second));
  Run asked(size, moments, 50), quiet(size, moments, 50), alone(size, moments, 0);
  for (const Step& step : random_steps(size, 8)) {
    for (Run* run : {&asked, &quiet, &alone}) run->step(step);
    const StateDict before = asked.state();
    const std::vector<SketchError> errors = asked.telemetry->errors();
    CHECK(same(before, asked.state()));
    CHECK(same(errors, asked.telemetry->errors()));
  }
  CHECK(same(asked.state(), quiet.state()));
  CHECK(same(asked.telemetry->errors(), quiet.telemetry->errors()));
  for (const Run* run : {&asked, &quiet}) {
    CHECK(run->parameter.value.to_vector<float>() == alone.parameter.value.to_vector<float>());
  }
  CHECK(quiet.optimizer.state_bytes().size() == alone.optimizer.state_bytes().size());
}

TEST_CASE("telemetry: asking changes no memory, and watching no training") {
  const Case size{300, 70, 2, 40};
  for (const bool banded : {false, true}) {
    for (const Readings& readings : kReadings) {
      check_that_asking_changes_nothing(
          size, sketches(size, readings, banded, {.alpha = 0.5f, .every = 2}));
    }
    check_that_asking_changes_nothing(size,
                                      {CountSketch{.ratio = 0.3, .banded = banded, .exact = 0.5},
                                       CountMin{.ratio = 0.3, .banded = banded, .exact = 0.5}});
  }
}

TEST_CASE("telemetry: the same bits with one and two threads") {
  const Case size{3000, 70, 3, 200};
  const auto errors = [&](int threads) {
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism,
                                      static_cast<size_t>(threads));
    Run run(size, sketches(size, kReadings.back()), 700);
    for (const Step& step : random_steps(size, 2)) run.step(step);
    return run.telemetry->errors();
  };
  CHECK(same(errors(1), errors(2)));
}

TEST_CASE("telemetry: its bytes, and what a step and a reading take beside") {
  for (const Case& size : {Case{400, 7, 2, 20}, Case{400, 33, 2, 20}, Case{20, 1, 2, 20}}) {
    const int64_t rows = std::min<int64_t>(30, size.rows);
    Run run(size, sketches(size, {Reading::wiener, Reading::row_scaled}), 0);
    const int64_t state_bytes = allocator().current()[Category::optimizer_state];
    const MemoryFigures before = allocator().current();
    run.telemetry.emplace(run.optimizer, 30, kSeed);
    const MemoryFigures after = allocator().current();
    CHECK(after[Category::workspace] - before[Category::workspace] == 2 * rows * size.dim * 4);
    CHECK(after[Category::index] - before[Category::index] == rows * 21);
    CHECK(after.total - before.total == run.telemetry->bytes());
    CHECK(SketchTelemetry::planned_bytes(30, size.rows, size.dim, 2) == run.telemetry->bytes());
    CHECK(allocator().current()[Category::optimizer_state] == state_bytes);

    const Step all = random_steps(size, 1)[0];
    give_gradient(run.parameter, all, size);
    run.parameter.gradient.values();
    const auto peak_of = [&](const auto& f) {
      const MemoryFigures now = allocator().current();
      allocator().reset_peak();
      f();
      CHECK(allocator().current().total == now.total);
      return std::pair(allocator().peak()[Category::workspace] - now[Category::workspace],
                       allocator().peak()[Category::index] - now[Category::index]);
    };
    const auto step = peak_of([&] { run.telemetry->step(); });
    CHECK(step.first == 2 * rows * size.dim * 4);
    CHECK(step.second == 2 * rows * 4);
    run.optimizer.step();
    run.optimizer.clear_gradients();
    const auto reading = peak_of([&] { run.telemetry->errors(); });
    // Values and gradient; the rows' floats; a row of sums for each bucket that rows share.
    CHECK(reading.first >= 2 * rows * size.dim * 4);
    CHECK(reading.first <= (2 * rows * size.dim + rows + 2 * (rows / 2) * size.dim) * 4);
    CHECK(reading.second <= 17 * rows * 4);
  }
}

TEST_CASE("telemetry: a step that finds no memory has changed nothing") {
  const Case size{300, 33, 2, 40};
  const Moments moments = sketches(size, kReadings.back());
  Run disturbed(size, moments, 50), run(size, moments, 50);
  for (const Step& step : random_steps(size, 8)) {
    run.step(step);
    give_gradient(disturbed.parameter, step, size);
    disturbed.parameter.gradient.values();
    const StateDict before = disturbed.state();
    allocator().set_limit(allocator().current().total + 50 * 33 * 4);
    CHECK_THROWS_AS(disturbed.telemetry->step(), OutOfMemory);
    allocator().set_limit(0);
    CHECK(same(before, disturbed.state()));
    disturbed.telemetry->step();
    disturbed.optimizer.step();
    disturbed.optimizer.clear_gradients();
  }
  CHECK(same(disturbed.telemetry->errors(), run.telemetry->errors()));
}

TEST_CASE("telemetry: saved, loaded and folded it goes on") {
  const Case size{300, 70, 2, 32}, narrow{300, 70, 2, 16};
  const std::vector<Step> steps = random_steps(size, 5);
  for (const Readings& readings : kReadings) {
    CAPTURE(to_string(readings.first));
    Run whole(size, sketches(size, readings), 40);
    for (size_t t = 1; t < 3; ++t) whole.step(steps[t]);
    const StateDict half = whole.state();
    Run resumed(size, sketches(size, readings), 40), folded(narrow, sketches(narrow, readings), 40);
    for (Run* run : {&resumed, &folded}) {
      run->optimizer.load(half);
      run->telemetry->load(half);
    }
    CHECK(same(resumed.telemetry->errors(), whole.telemetry->errors()));
    for (size_t t = 0; t < 5; ++t) {
      whole.step(steps[t]);
      resumed.step(steps[t]);
    }
    CHECK(same(resumed.state(), whole.state()));
    CHECK(same(resumed.telemetry->errors(), whole.telemetry->errors()));

    // Folded when it was loaded, or while it runs.
    Run folding(size, sketches(size, readings), 40);
    folding.optimizer.load(half);
    folding.telemetry->load(half);
    CHECK(folding.optimizer.fold() > 0);
    for (size_t t = 0; t < 5; ++t) {
      folding.step(steps[t]);
      folded.step(steps[t]);
    }
    const std::vector<SketchError> errors = folding.telemetry->errors();
    CHECK(same(errors, folded.telemetry->errors()));
    for (const SketchError& entry : errors) {
      CHECK(entry.error.relative > 0.0);
      CHECK(std::isfinite(entry.error.relative));
    }
  }
}

TEST_CASE("telemetry: several tables, a vector, and tables without gradients") {
  const Case size{40, 7, 2, 5};
  const Moments both = sketches(size, {Reading::own_delta, Reading::own_delta});
  Parameter first("a", {40, 7}), dense("b", {40, 7}), vector("c", {40}), idle("d", {3, 2});
  Optimizer optimizer(Adam{}, 1);
  optimizer.add(first, {Dense{}, both.second});
  optimizer.add(dense);
  optimizer.add(vector, both);
  optimizer.add(idle, both);
  SketchTelemetry telemetry(optimizer, 9);
  for (const Step& step : random_steps(size, 3)) {
    if (!step.dense) continue;
    give_gradient(first, step, size);
    vector.gradient.add(Tensor::full({40}, 0.5f, {Category::gradient, "gradient"}));
    telemetry.step();
    optimizer.step();
    optimizer.clear_gradients();
  }
  const std::vector<SketchError> errors = telemetry.errors();
  REQUIRE(errors.size() == 5);
  const char* const names[] = {"a.second", "c.first", "c.second", "d.first", "d.second"};
  for (size_t i = 0; i < 5; ++i) {
    CHECK(errors[i].moment == names[i]);
    CHECK(errors[i].rows == (i < 3 ? 9 : 0));
    CHECK((errors[i].error.relative > 0) == (i < 3));
  }
  CHECK(telemetry.bytes() == 9 * (7 * 4 + 21) + 9 * (2 * 4 + 21) + 3 * (2 * 2 * 4 + 21));
}

TEST_CASE("telemetry: what cannot be is refused") {
  const Case size{40, 7, 2, 5};
  const Moments moments = sketches(size, kReadings[1]);
  Run run(size, moments, 9);
  CHECK_THROWS_WITH_AS(SketchTelemetry(run.optimizer, 0), doctest::Contains("0 rows"),
                       InvalidArgument);
  Run dense(size, {Dense{}, Dense{}}, 0);
  CHECK_THROWS_WITH_AS(SketchTelemetry(dense.optimizer, 9),
                       doctest::Contains("no moment of the 1 parameters lies in a sketch"),
                       InvalidArgument);
  Optimizer sgd(Sgd{});
  CHECK_THROWS_AS(SketchTelemetry(sgd, 9), InvalidArgument);

  const StateDict saved = run.state();
  Run other(size, moments, 8);
  CHECK_THROWS_WITH_AS(other.telemetry->load(saved),
                       doctest::Contains("reservoirs of 9 rows, here they have 8"),
                       InvalidArgument);
  Run without(size, moments, 0);
  CHECK_THROWS_WITH_AS(other.telemetry->load(without.state()), doctest::Contains("no reservoirs"),
                       InvalidArgument);
  run.optimizer.step();
  CHECK_THROWS_WITH_AS(run.telemetry->step(),
                       doctest::Contains("made 1 steps, of which the telemetry has seen 0"),
                       InvalidArgument);
  CHECK_THROWS_WITH_AS(SketchTelemetry(run.optimizer, 9), doctest::Contains("has made 1 steps"),
                       InvalidArgument);
}

TEST_CASE("optimizer: a moment's memory, for those who watch it") {
  Parameter table("table", {40, 7}), other("other", {2, 2});
  Optimizer optimizer = pairs()[1].optimizer(1);  // Adagrad: no first moment
  optimizer.add(table);
  CHECK(optimizer.memory(table, MomentRole::first) == nullptr);
  CHECK(optimizer.memory(table, MomentRole::second)->bytes() == 40 * 7 * 4);
  CHECK(optimizer.memory(other, MomentRole::second) == nullptr);
}

}  // namespace
}  // namespace sketchgrad::test
