// What is left of a run that an error ended.
#include "sketchgrad/apps/common/trainer.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <new>
#include <optional>

#include "sketchgrad/apps/lm/task.h"
#include "sketchgrad/framework/memory.h"
#include "sketchgrad/framework/ops.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

constexpr int64_t kSteps = 9;
constexpr int64_t kFailingStep = 6;

// Adam that can fail at a step, when some parameters may have been stepped already.
struct FailingAdam {
  float learning_rate = 0.01f;
  int64_t failing_step = 0;
  Moments moments() const { return Adam{}.moments(); }
  RuleStep at(int64_t step, float lr) const {
    if (step == failing_step) throw std::bad_alloc();
    return Adam{}.at(step, lr);
  }
};

// A language model's training in which something can go wrong.
class Task final : public TrainingTask {
 public:
  explicit Task(const TemporaryFolder& folder, const SoftmaxOptions& softmax = {})
      : text_(read_training_text({folder.file("text", generated_text(80, 30))}, {})),
        model_({.vocabulary = text_.vocabulary.size(),
                .embedding_dim = 6,
                .hidden = 5,
                .layers = 2,
                .dropout = 0.3,
                .softmax = softmax},
               /*seed=*/1),
        task_(model_, text_.vocabulary, ColumnBatches(text_.ids, 4, 7),
              ColumnBatches(text_.ids, 4, 7), nlohmann::json::object()) {}

  Module& model() override { return model_; }
  int64_t steps_per_epoch() const override { return 4; }
  int64_t fetch(int64_t step_of_epoch) override {
    ++step_;
    if (at_fetch) at_fetch(step_);
    return task_.fetch(step_of_epoch);
  }
  Variable loss(Tape& tape) override {
    const Variable loss = task_.loss(tape);
    if (step_ != failing_step || !change_loss) return loss;
    const auto change = change_loss;  // it may put another one in its place
    return change(tape, loss);
  }
  std::optional<double> validate() override {
    return validation_loss ? validation_loss : task_.validate();
  }
  void save(StateDict& state) const override { task_.save(state); }
  void load(const StateDict& state) override { task_.load(state); }
  void keep_state() override { task_.keep_state(); }
  void restore_state() override { task_.restore_state(); }

  int64_t failing_step = kFailingStep;
  std::function<Variable(Tape& tape, const Variable& loss)> change_loss;
  std::function<void(int64_t step)> at_fetch;
  std::optional<double> validation_loss;

 private:
  TrainingText text_;
  lm::LanguageModel model_;
  lm::LanguageModelTask task_;
  int64_t step_ = 0;
};

struct Setup {
  TemporaryFolder folder;
  Task task{folder};
  TrainerOptions options = {
      .total_steps = kSteps, .learning_rate = 0.01, .eval_every = 100, .log_every = 4};
  MetricsLog metrics;
  int64_t failing_update = 0;

  void run() {
    Optimizer optimizer(FailingAdam{.failing_step = failing_update});
    optimizer.add(task.model().parameters());
    const auto schedule = parse_schedule("constant", options.total_steps);
    const CheckpointFolder checkpoints(folder / "run");
    Trainer(task, optimizer, *schedule, options, metrics, &checkpoints).run();
  }
  StateDict latest() const { return load_safetensors(folder / "run/latest.safetensors"); }
};

// The checkpoint of a run that ends there without an error.
StateDict finished_at(int64_t steps) {
  Setup setup;
  setup.options.total_steps = steps;
  setup.run();
  return setup.latest();
}

// Without what the last validation adds.
void check_same_step(const StateDict& actual, const StateDict& wanted) {
  CHECK(same_bits(actual, wanted));
  for (const char* key : {"rng.offset", "optimizer.steps", "optimizer.learning_rate"}) {
    CAPTURE(key);
    CHECK(actual.text(key) == wanted.text(key));
  }
  const auto figures = nlohmann::json::parse(actual.text("trainer"));
  const auto other = nlohmann::json::parse(wanted.text("trainer"));
  for (const char* key : {"steps", "examples", "epoch", "interval", "epoch_losses", "last_loss"}) {
    CAPTURE(key);
    CHECK(figures[key] == other[key]);
  }
}

Variable with_nan_gradient(Tape& tape, const Variable& loss) {
  return tape.record(
      "nan", loss.value, {&loss}, [place = loss.place()](Tape& t, const Tensor& gradient) {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        t.add_gradient(place, Tensor::full(gradient.shape(), nan, {Category::gradient, "nan"}));
      });
}

TEST_CASE("trainer: an error within a step leaves the checkpoint of the step before") {
  const StateDict before = finished_at(kFailingStep - 1);
  const auto check_left = [&](const char* message, const auto& change_loss) {
    CAPTURE(message);
    Setup setup;
    setup.task.change_loss = change_loss;
    CHECK_THROWS_WITH_AS(setup.run(), doctest::Contains(message), Error);
    check_same_step(setup.latest(), before);
  };
  check_left("step 6: the loss is nan", [](Tape&, const Variable& loss) {
    loss.value.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    return loss;
  });
  check_left("step 6: [clip_global_norm]", with_nan_gradient);
  check_left("[memory] none left", [](Tape&, const Variable&) -> Variable {
    throw OutOfMemory("[memory] none left", 1);
  });
  check_left("step 6: the system has no memory",
             [](Tape&, const Variable&) -> Variable { throw std::bad_alloc(); });
}

// Trains with a sketched embedding. In a step it runs out of memory, or is folded of itself.
std::pair<std::vector<float>, int64_t> folding_run(bool runs_out, bool fold_on_oom, int64_t width) {
  Setup setup;
  setup.options.fold_on_oom = fold_on_oom;
  Optimizer optimizer(Adam{.learning_rate = 0.01f});
  Parameter* embedding = nullptr;
  for (Parameter* parameter : setup.task.model().parameters()) {
    if (parameter->name != "embedding.weight") {
      optimizer.add(*parameter);
      continue;
    }
    embedding = parameter;
    optimizer.add(*parameter, {Dense{}, CountMin{.width = width, .reading = Reading::mean_delta}});
  }
  REQUIRE(embedding != nullptr);
  setup.task.change_loss = [&](Tape&, const Variable& loss) -> Variable {
    if (runs_out) throw OutOfMemory("no room", 1);
    CHECK(optimizer.fold() == 3 * width / 2 * 6 * 4);
    return loss;
  };
  const auto schedule = parse_schedule("constant", kSteps);
  Trainer(setup.task, optimizer, *schedule, setup.options, setup.metrics, nullptr).run();
  StateDict state;
  optimizer.save(state);
  return {embedding->value.to_vector<float>(),
          state.integer("optimizer.embedding.weight.second.width")};
}

TEST_CASE("trainer: out of memory, sketches are folded and the step begins anew") {
  const auto [folded, width] = folding_run(true, true, 12);
  CHECK(width == 6);
  const auto [expected, same_width] = folding_run(false, true, 12);
  CHECK(same_width == 6);
  CHECK(folded == expected);
  CHECK_THROWS_AS(folding_run(true, false, 12), OutOfMemory);
  CHECK_THROWS_AS(folding_run(true, true, 1), OutOfMemory);  // nothing to fold
}

// The width of a sketch of 12 buckets, 3 deep, after a run that has this many bytes less than it
// would take, and the most that it took.
std::pair<int64_t, int64_t> width_in_less(int64_t missing, int64_t whole, bool fold_on_oom,
                                          const std::optional<OutOfMemory>& thrown = {}) {
  Setup setup;
  if (thrown) {
    setup.task.change_loss = [&](Tape&, const Variable&) -> Variable { throw *thrown; };
  }
  setup.options.fold_on_oom = fold_on_oom;
  Optimizer optimizer(Adam{.learning_rate = 0.01f});
  for (Parameter* parameter : setup.task.model().parameters()) {
    const bool table = parameter->name == "embedding.weight";
    optimizer.add(*parameter,
                  table ? Moments{Dense{}, CountMin{.width = 12, .reading = Reading::mean_delta}}
                        : optimizer.default_moments());
  }
  const auto width = [&] {
    StateDict state;
    optimizer.save(state);
    return state.integer("optimizer.embedding.weight.second.width");
  };
  const auto schedule = parse_schedule("constant", kSteps);
  Trainer trainer(setup.task, optimizer, *schedule, setup.options, setup.metrics, nullptr);
  allocator().reset_peak();
  if (missing > 0) allocator().set_limit(whole - missing);
  try {
    trainer.run();
  } catch (const OutOfMemory& error) {
    allocator().set_limit(0);
    CHECK(error.missing_bytes() <= error.requested_bytes());
    if (thrown) CHECK(width() == 12);  // what cannot help is left alone
    throw;
  }
  allocator().set_limit(0);
  return {width(), allocator().peak().total};
}

TEST_CASE("trainer: sketches are folded where that frees what is missing, however much is asked") {
  const auto [width, whole] = width_in_less(0, 0, true);
  CHECK(width == 12);
  constexpr int64_t kFirstFold = 6 * 3 * 6 * 4;
  CHECK(width_in_less(kFirstFold, whole, true) == std::pair(int64_t{6}, whole - kFirstFold));
  CHECK(width_in_less(kFirstFold + 1, whole, true).first == 3);
  CHECK_THROWS_AS(width_in_less(kFirstFold, whole, false), OutOfMemory);
  CHECK_THROWS_AS(width_in_less(2 * whole / 3, whole, true), OutOfMemory);
  CHECK(width_in_less(0, 0, true, OutOfMemory("no room", 5000, 2 * kFirstFold)).first == 6);
  CHECK_THROWS_AS(width_in_less(0, 0, true, OutOfMemory("no room", 5000, 2 * kFirstFold + 1)),
                  OutOfMemory);
}

// A training that runs out of memory at one allocation of its third step.
struct ShortOfMemory {
  const char* name;
  SoftmaxOptions softmax;
  Moments tables;

  // Values of all parameters after the last step. `allocations`: of the step, that succeed;
  // nothing where they were all it takes.
  std::optional<std::vector<float>> values(int64_t allocations) const {
    const TemporaryFolder folder;
    Task task(folder, softmax);
    Optimizer optimizer(Adam{.learning_rate = 0.01f});
    for (Parameter* parameter : task.model().parameters()) {
      const bool table = parameter->value.dim() == 2 && parameter->value.size(0) > 20;
      optimizer.add(*parameter, table ? tables : optimizer.default_moments());
    }
    const auto schedule = parse_schedule("constant", kSteps);
    MetricsLog metrics;
    Trainer trainer(task, optimizer, *schedule,
                    {.total_steps = 5, .learning_rate = 0.01, .eval_every = 100}, metrics, nullptr);
    MemoryFigures before;
    bool passed = false;
    task.at_fetch = [&](int64_t step) {
      if (step == 3) {
        before = allocator().current();
        if (allocations >= 0) allocator().set_limit(1, allocations);
      } else {
        passed = passed || step == 4;
        allocator().set_limit(0);
      }
    };
    try {
      trainer.run();
    } catch (const OutOfMemory& error) {
      allocator().set_limit(0);
      CHECK_FALSE(passed);
      const std::string message = error.what();
      CAPTURE(message);
      CHECK(message.find("[memory] ") != std::string::npos);
      CHECK(message.find("the limit is 1 B") != std::string::npos);
      for (const Category category : {Category::parameter, Category::gradient, Category::activation,
                                      Category::workspace, Category::optimizer_state}) {
        CAPTURE(to_string(category));
        CHECK(allocator().current()[category] == before[category]);
      }
      stepped_before = message.find("(scope \"optimizer") != std::string::npos;
      CHECK(trainer.run());
      passed = false;
    }
    if (allocations >= 0 && passed) return std::nullopt;
    std::vector<float> all;
    for (const Parameter* parameter : task.model().parameters()) {
      const std::vector<float> values = parameter->value.to_vector<float>();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }
  mutable bool stepped_before = false;  // the run that failed, in part
};

TEST_CASE("trainer: memory may run out at any allocation of a step, and training goes on") {
  const ShortOfMemory cases[] = {
      {"dense", {}, {}},
      {"sketches", {}, {CountSketch{0.5}, CountMin{0.5}}},
      {"deep sketches", {}, {CountSketch{0.5, 3}, CountMin{0.5, 2}}},
      {"hybrid",
       {},
       {CountSketch{.ratio = 1.2, .exact = 0.5}, CountMin{.ratio = 1.2, .exact = 0.5}}},
      {"factors", {}, {RankOne{}, RankOneL2{}}},
      {"covers", {}, {Bf16{}, Sm3Covers{}}},
      {"few bits", {}, {Bf16{}, Int8{}}},
      {"sampled", {.softmax = "sampled", .samples = 9}, {CountSketch{0.5}, CountMin{0.5}}},
      {"lsh", {.softmax = "lsh", .samples = 9, .lsh_tail = 5, .lsh_bits = 4}, {}},
  };
  for (const ShortOfMemory& one : cases) {
    CAPTURE(std::string(one.name));
    const std::vector<float> whole = *one.values(-1);
    int64_t allocations = 0;
    for (;; ++allocations) {
      CAPTURE(allocations);
      const auto values = one.values(allocations);
      if (!values) break;
      // A step that is begun anew before it has changed anything comes to the same.
      CHECK((one.stepped_before || *values == whole));
    }
    CHECK(allocations > 50);
  }
}

TEST_CASE("trainer: telemetry survives a fold") {
  // The errors after the last step, of a run that runs out of memory, or is folded of itself.
  const auto error = [](bool folds, bool runs_out) {
    Setup setup;
    setup.options.fold_on_oom = true;
    setup.options.telemetry_rows = 8;
    Optimizer optimizer(Adam{.learning_rate = 0.01f});
    for (Parameter* parameter : setup.task.model().parameters()) {
      if (parameter->name != "embedding.weight") {
        optimizer.add(*parameter);
      } else {
        optimizer.add(*parameter, {Dense{}, CountMin{.width = 12, .reading = Reading::mean_delta}});
      }
    }
    const auto schedule = parse_schedule("constant", kSteps);
    Trainer trainer(setup.task, optimizer, *schedule, setup.options, setup.metrics, nullptr);
    setup.task.change_loss = [&](Tape&, const Variable& loss) -> Variable {
      if (runs_out) throw OutOfMemory("no room", 1);
      if (folds) CHECK(optimizer.fold() > 0);
      return loss;
    };
    CHECK(trainer.run());
    allocator().set_limit(1);
    CHECK(trainer.sketch_errors() == nullptr);
    allocator().set_limit(0);
    return trainer.sketch_errors();
  };
  const nlohmann::json folded = error(false, true);
  CHECK(folded == error(true, false));
  CHECK(folded != error(false, false));
  CHECK(folded.size() == 1);
  CHECK(folded["embedding.weight.second"].get<double>() > 0);
}

TEST_CASE("trainer: an update that fails half way is not saved") {
  Setup setup;
  setup.options.checkpoint_every = 4;
  setup.failing_update = kFailingStep;
  CHECK_THROWS_AS(setup.run(), OutOfMemory);
  check_same_step(setup.latest(), finished_at(4));
}

TEST_CASE("trainer: metrics that cannot be written cost no step, and best is there") {
  Setup setup;
  setup.metrics = MetricsLog("/dev/full");
  setup.options.log_every = 100;
  setup.options.eval_every = 3;
  CHECK_THROWS_WITH_AS(setup.run(), doctest::Contains("/dev/full"), IoError);
  const StateDict best = load_safetensors(setup.folder / "run/best.safetensors");
  CHECK(best.integer("optimizer.steps") == 3);
  CHECK(nlohmann::json::parse(setup.latest().text("trainer"))["validations"].size() == 1);

  Setup between;
  between.metrics = MetricsLog("/dev/full");
  CHECK_THROWS_AS(between.run(), IoError);
  check_same_step(between.latest(), finished_at(4));
}

TEST_CASE("trainer: a validation loss that is not finite is of the step that is done") {
  Setup setup;
  setup.options.eval_every = 3;
  setup.task.validation_loss = INFINITY;
  CHECK_THROWS_WITH_AS(setup.run(), doctest::Contains("step 3: the validation loss is inf"),
                       NumericError);
  check_same_step(setup.latest(), finished_at(3));
}

TEST_CASE("trainer: losses that are read every few steps make the same run") {
  const StateDict wanted = finished_at(kSteps);
  for (const int64_t read_every : {2, 3, 100}) {
    Setup setup;
    setup.options.read_every = read_every;
    setup.options.clip = 0.5;
    setup.run();
    Setup at_once;
    at_once.options.clip = 0.5;
    at_once.run();
    check_same_step(setup.latest(), at_once.latest());
  }
  Setup unclipped;
  unclipped.options.read_every = 3;
  unclipped.run();
  check_same_step(unclipped.latest(), wanted);
}

TEST_CASE("trainer: what is read late and is not finite is named, and never saved") {
  const auto check_left = [&](const char* message, const auto& change_loss) {
    CAPTURE(message);
    Setup setup;
    setup.options.read_every = 100;
    setup.options.checkpoint_every = 5;
    setup.options.log_every = 100;
    setup.task.change_loss = change_loss;
    CHECK_THROWS_WITH_AS(setup.run(), doctest::Contains(message), NumericError);
    CHECK(setup.latest().integer("optimizer.steps") == 5);
  };
  check_left("step 6: the loss is nan", [](Tape& tape, const Variable& loss) {
    return scale(tape, loss, std::numeric_limits<float>::quiet_NaN());
  });
  check_left("step 6: the gradient norm is nan", with_nan_gradient);

  // Another error meets steps that have not been read: good ones are saved, bad ones are not.
  for (const bool bad : {false, true}) {
    Setup setup;
    setup.options.read_every = 100;
    setup.options.log_every = 100;
    setup.task.failing_step = 3;
    setup.task.change_loss = [&](Tape& tape, const Variable& loss) {
      setup.task.failing_step = 4;
      setup.task.change_loss = [](Tape&, const Variable&) -> Variable { throw std::bad_alloc(); };
      return bad ? with_nan_gradient(tape, loss) : loss;
    };
    CHECK_THROWS_AS(setup.run(), OutOfMemory);
    const bool saved = CheckpointFolder(setup.folder / "run").has_latest();
    CHECK(saved == !bad);
    if (saved) CHECK(setup.latest().integer("optimizer.steps") == 3);
  }
}

TEST_CASE("trainer: an error before the first step writes no checkpoint") {
  Setup setup;
  setup.task.failing_step = 1;
  setup.task.change_loss = [](Tape&, const Variable&) -> Variable { throw std::bad_alloc(); };
  CHECK_THROWS_AS(setup.run(), OutOfMemory);
  CHECK_FALSE(CheckpointFolder(setup.folder / "run").has_latest());
}

TEST_CASE("trainer: the wall time is of the whole run") {
  Setup setup;
  constexpr double kBefore = 1000;
  setup.options.start = std::chrono::steady_clock::now() - std::chrono::seconds(1000);
  setup.options.total_steps = 2;
  setup.run();
  const StateDict saved = setup.latest();
  Optimizer optimizer(FailingAdam{});
  optimizer.add(setup.task.model().parameters());
  const auto schedule = parse_schedule("constant", 2);
  Trainer resumed(setup.task, optimizer, *schedule, {.total_steps = 2}, setup.metrics, nullptr);
  CHECK(resumed.elapsed_seconds() < kBefore);
  resumed.load(saved);
  CHECK(resumed.elapsed_seconds() > kBefore);
}

}  // namespace
}  // namespace sketchgrad::apps
