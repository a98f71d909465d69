#include "sketchgrad/layers/lstm.h"

#include <doctest/doctest.h>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/tests/layers/layer_testing.h"
#include "sketchgrad/tests/support/memory_log.h"

// `step_by_step` changes nothing on the CPU, which has no cuDNN.
namespace sketchgrad {
namespace {

LstmState golden_state(const nlohmann::json& golden) {
  const Tensor h = test::golden_tensor(golden.at("h0"));
  const Tensor c = test::golden_tensor(golden.at("c0"));
  LstmState state;
  for (int64_t k = 0; k < h.size(0); ++k) {
    state.h.push_back(h.rows(k, 1).reshape({h.size(1), h.size(2)}));
    state.c.push_back(c.rows(k, 1).reshape({c.size(1), c.size(2)}));
  }
  return state;
}

std::vector<float> concatenated(const std::vector<Tensor>& layers) {
  std::vector<float> all;
  for (const Tensor& layer : layers) {
    const std::vector<float> values = layer.to_vector<float>();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

Variable forward_from_zero(Tape& tape, Lstm& lstm, const Variable& x) {
  LstmState state = lstm.zero_state(x.value.size(1));
  return lstm.forward(tape, x, state);
}

// What `call` allocates and releases.
template <class Call>
std::vector<test::LoggedEvent> events_of(const Call& call) {
  const test::MemoryLog log(allocator(test::kTestDevice));
  call();
  return log.events();
}

}  // namespace

TEST_CASE("lstm: outputs, states and gradients as PyTorch") {
  for (const bool step_by_step : {false, true}) {
    CAPTURE(step_by_step);
    for (const nlohmann::json& golden : test::golden_cases("lstm")) {
      CAPTURE(golden.at("name").get<std::string>());
      Rng rng(1);
      Lstm lstm("lstm",
                {.input = golden.at("input").get<int64_t>(),
                 .hidden = golden.at("hidden").get<int64_t>(),
                 .layers = golden.at("layers").get<int64_t>(),
                 .projection = golden.at("proj").get<int64_t>(),
                 .step_by_step = step_by_step},
                rng, test::kTestDevice);
      const nlohmann::json& weights = golden.at("weights");
      CHECK(lstm.parameters().size() == weights.size());
      for (const auto& [name, array] : weights.items()) {
        test::find_parameter(lstm, "lstm." + name).value.copy_from(test::golden_tensor(array));
      }
      Parameter x("x", golden.at("x").at("shape").get<Shape>(), test::kTestDevice);
      x.value.copy_from(test::golden_tensor(golden.at("x")));
      LstmState state = golden_state(golden);

      Tape tape;
      const Variable y = lstm.forward(tape, tape.leaf(x), state);
      CHECK(y.value.shape() == golden.at("output").at("shape").get<Shape>());
      CHECK(test::worst_difference(y.value.to_vector<float>(),
                                   test::golden_values(golden.at("output"))) <
            test::tolerance(2e-6));
      CHECK(test::worst_difference(concatenated(state.h), test::golden_values(golden.at("hT"))) <
            test::tolerance(2e-6));
      CHECK(test::worst_difference(concatenated(state.c), test::golden_values(golden.at("cT"))) <
            test::tolerance(2e-6));

      tape.backward(test::weighted_sum(tape, y, test::golden_tensor(golden.at("r"))));
      CHECK(test::worst_difference(test::full_gradient(x), test::golden_values(golden.at(
                                                               "grad_x"))) < test::tolerance(1e-5));
      for (const auto& [name, array] : golden.at("grad_weights").items()) {
        CAPTURE(name);
        CHECK(
            test::worst_difference(test::full_gradient(test::find_parameter(lstm, "lstm." + name)),
                                   test::golden_values(array)) < test::tolerance(1e-5));
      }
    }
  }
}

TEST_CASE("lstm: gradients of odd sizes, layers, projection and dropout") {
  const std::vector<LstmOptions> all_options = {
      {.input = 1, .hidden = 1},
      {.input = 3, .hidden = 7, .layers = 3},
      {.input = 5, .hidden = 3, .layers = 2, .projection = 2},
      {.input = 4, .hidden = 5, .layers = 3, .projection = 7, .dropout = 0.4f},
  };
  for (const bool step_by_step : {false, true}) {
    CAPTURE(step_by_step);
    for (LstmOptions options : all_options) {
      for (const int64_t steps : {1, 3}) {
        CAPTURE(options.hidden);
        CAPTURE(steps);
        options.step_by_step = step_by_step;
        Rng rng(2);
        Lstm lstm("lstm", options, rng, test::kTestDevice);
        Parameter x("x", {steps, 3, options.input}, test::kTestDevice);
        test::fill_normal(x.value, 106);
        const Tensor weights = test::random_normal({steps, 3, lstm.output_dim()}, 3);
        std::vector<Parameter*> parameters = lstm.parameters();
        parameters.push_back(&x);
        const GradCheckResult result = grad_check(
            [&](Tape& tape) {
              rng = Rng(4);  // the same masks each time
              LstmState state = lstm.zero_state(3);
              for (Tensor& h : state.h) h.fill(0.3f);
              for (Tensor& c : state.c) c.fill(-0.2f);
              return test::weighted_sum(tape, lstm.forward(tape, tape.leaf(x), state), weights);
            },
            parameters, {.max_elements = 24});
        CHECK_MESSAGE(result.passed, result.where);
      }
    }
  }
}

TEST_CASE("lstm: one segment equals two that carry the state over") {
  for (const bool step_by_step : {false, true}) {
    CAPTURE(step_by_step);
    Rng rng(5);
    Lstm lstm("lstm",
              {.input = 4, .hidden = 6, .layers = 2, .projection = 3, .step_by_step = step_by_step},
              rng, test::kTestDevice);
    const Tensor x = test::random_normal({10, 3, 4}, 6);
    for (const bool recording : {false, true}) {
      Tape tape(recording);
      LstmState once = lstm.zero_state(3);
      const Variable whole = lstm.forward(tape, Tape::constant(x), once);
      LstmState state = lstm.zero_state(3);
      const Variable first = lstm.forward(tape, Tape::constant(x.rows(0, 5)), state);
      const Variable second = lstm.forward(tape, Tape::constant(x.rows(5, 5)), state);
      CHECK(test::worst_difference(first.value, whole.value.rows(0, 5)) < test::tolerance(1e-6));
      CHECK(test::worst_difference(second.value, whole.value.rows(5, 5)) < test::tolerance(1e-6));
      CHECK(test::worst_difference(concatenated(state.h), concatenated(once.h)) <
            test::tolerance(1e-6));
      CHECK(test::worst_difference(concatenated(state.c), concatenated(once.c)) <
            test::tolerance(1e-6));
    }
  }
}

TEST_CASE("lstm: evaluation computes what training does, but for the dropout") {
  for (const bool step_by_step : {false, true}) {
    CAPTURE(step_by_step);
    Rng rng(7);
    Lstm lstm("lstm",
              {.input = 4, .hidden = 6, .layers = 2, .dropout = 0.5f, .step_by_step = step_by_step},
              rng, test::kTestDevice);
    const Variable x = Tape::constant(test::random_normal({5, 2, 4}, 8));
    Tape recording, evaluation(false);
    const std::vector<float> dropped =
        forward_from_zero(recording, lstm, x).value.to_vector<float>();
    CHECK(forward_from_zero(recording, lstm, x).value.to_vector<float>() != dropped);
    lstm.set_training(false);
    const std::vector<float> recorded =
        forward_from_zero(recording, lstm, x).value.to_vector<float>();
    const std::vector<float> evaluated =
        forward_from_zero(evaluation, lstm, x).value.to_vector<float>();
    if (test::kTestDevice == kCpu || step_by_step) {
      CHECK(evaluated == recorded);
    } else {
      // cuDNN may take other kernels where no backward follows.
      CHECK(test::worst_difference(evaluated, recorded) < test::tolerance(1e-6));
    }
    CHECK(recorded != dropped);
  }
}

TEST_CASE("lstm: no gradient enters the previous segment, and activations go away") {
  for (const bool step_by_step : {false, true}) {
    CAPTURE(step_by_step);
    Rng rng(9);
    Lstm lstm("lstm",
              {.input = 4,
               .hidden = 6,
               .layers = 2,
               .projection = 5,
               .dropout = 0.2f,
               .step_by_step = step_by_step},
              rng, test::kTestDevice);
    const int64_t data_before = test::live_bytes(Category::data);
    const int64_t activations_before = test::live_bytes(Category::activation);
    LstmState state = lstm.zero_state(3);
    for (int segment = 0; segment < 3; ++segment) {
      Tape tape;
      const Variable x = Tape::constant(test::random_normal({7, 3, 4}, 10));
      tape.backward(sum(tape, lstm.forward(tape, x, state)));
      CHECK(test::live_bytes(Category::activation) == activations_before);
    }
    CHECK(test::live_bytes(Category::workspace) == 0);
    CHECK(test::live_bytes(Category::data) - data_before == 2 * 3 * (5 + 6) * 4);
  }
}

TEST_CASE("lstm: evaluation holds cells of one step alone") {
  Rng rng(11);
  Lstm lstm("lstm", {.input = 2, .hidden = 64, .step_by_step = true}, rng, test::kTestDevice);
  const Variable x = Tape::constant(test::random_normal({50, 4, 2}, 12));
  const auto peak_of = [&](bool recording) {
    allocator(test::kTestDevice).reset_peak();
    Tape tape(recording);
    forward_from_zero(tape, lstm, x);
    return allocator(test::kTestDevice).at_peak().total;
  };
  const int64_t cells_of_all_steps = 50 * 4 * 64 * 4;
  CHECK(peak_of(true) - peak_of(false) > cells_of_all_steps * 9 / 10);
  if (test::kTestDevice == kCpu) return;

  // cuDNN has its cells in the reserve. What it takes besides is its own affair.
  Lstm by_cudnn("cudnn", {.input = 2, .hidden = 64}, rng, test::kTestDevice);
  const auto has_reserve = [&](bool recording) {
    Tape tape(recording);
    const std::vector<test::LoggedEvent> events =
        events_of([&] { forward_from_zero(tape, by_cudnn, x); });
    return std::any_of(events.begin(), events.end(), [](const test::LoggedEvent& event) {
      return event.name == "cudnn.reserve_l0";
    });
  };
  CHECK(has_reserve(true));
  CHECK_FALSE(has_reserve(false));
}

TEST_CASE("lstm: names of parameters and of memory") {
  Rng rng(13);
  Lstm lstm("encoder", {.input = 3, .hidden = 4, .layers = 2, .projection = 2}, rng,
            test::kTestDevice);
  const auto shape_of = [&](const char* name) {
    return test::find_parameter(lstm, std::string("encoder.") + name).value.shape();
  };
  CHECK(shape_of("weight_ih_l0") == Shape{16, 3});
  CHECK(shape_of("weight_ih_l1") == Shape{16, 2});
  CHECK(shape_of("weight_hh_l1") == Shape{16, 2});
  CHECK(shape_of("bias_hh_l1") == Shape{16});
  CHECK(shape_of("weight_hr_l0") == Shape{2, 4});

  Tape tape;
  const std::vector<test::LoggedEvent> events = events_of([&] {
    forward_from_zero(tape, lstm, Tape::constant(test::random_normal({2, 1, 3}, 14)));
  });
  // By cuDNN all that backward needs is one array.
  const char* const kept = test::kTestDevice == kCpu ? "encoder.gates_l1" : "encoder.reserve_l1";
  CHECK(std::any_of(events.begin(), events.end(), [&](const test::LoggedEvent& event) {
    return event.name == kept && event.scope == "encoder" && event.category == Category::activation;
  }));
}

TEST_CASE("lstm: what it refuses") {
  Rng rng(15);
  Lstm lstm("lstm", {.input = 3, .hidden = 4, .layers = 2}, rng, test::kTestDevice);
  Tape tape;
  const auto run = [&](const Shape& shape, LstmState state) {
    return test::refusal([&] {
      lstm.forward(
          tape,
          Tape::constant(Tensor::zeros(shape, test::kTestData, DType::float32, test::kTestDevice)),
          state);
    });
  };
  CHECK(run({5, 2, 3}, lstm.zero_state(2)).empty());
  CHECK(test::contains(run({5, 2, 4}, lstm.zero_state(2)), "x has shape [5, 2, 4]"));
  CHECK(test::contains(run({10, 3}, lstm.zero_state(2)), "x has shape [10, 3]"));
  CHECK(test::contains(run({0, 2, 3}, lstm.zero_state(2)), "at least 1"));
  CHECK(test::contains(run({5, 2, 3}, lstm.zero_state(3)), "must be [2, 4]"));
  CHECK(test::contains(run({5, 2, 3}, {}), "0 tensors h for 2 layers"));
  LstmState no_cells = lstm.zero_state(2);
  no_cells.c[1] = Tensor();
  CHECK(test::contains(run({5, 2, 3}, no_cells), "state c has shape none"));

  const auto make = [&](LstmOptions options) {
    return test::refusal([&] { Lstm("bad", options, rng, test::kTestDevice); });
  };
  CHECK(test::contains(make({.input = 0, .hidden = 4}), "input 0"));
  CHECK(test::contains(make({.input = 3, .hidden = 0}), "hidden 0"));
  CHECK(test::contains(make({.input = 3, .hidden = 4, .layers = 0}), "layers 0"));
  CHECK(test::contains(make({.input = 3, .hidden = 4, .projection = -1}), "projection -1"));
  CHECK(test::contains(make({.input = 3, .hidden = 4, .dropout = 1.0f}), "dropout 1"));
}

}  // namespace sketchgrad
