#include "sketchgrad/layers/linear.h"

#include <doctest/doctest.h>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {

TEST_CASE("linear: y = x W^T + b, with leading axes folded") {
  Rng rng(1);
  Linear layer("linear", 2, 3, rng, true, test::kTestDevice);
  test::set_values(layer.weight().value, {1, 2, 3, 4, 5, 6});
  test::set_values(layer.bias()->value, {10, 20, 30});
  Tape tape(false);
  const Variable x = Tape::constant(
      Tensor::from<float>({1, 1, 2, 0}, {2, 1, 2}, test::kTestData, test::kTestDevice));
  const Variable y = layer.forward(tape, x);
  CHECK(y.value.shape() == Shape{2, 1, 3});
  CHECK(y.value.to_vector<float>() == std::vector<float>{13, 27, 41, 12, 26, 40});
}

TEST_CASE("linear: gradients") {
  for (const bool bias : {true, false}) {
    Rng rng(2);
    Linear first("first", 7, 5, rng, bias, test::kTestDevice);
    Linear second("second", 5, 3, rng, bias, test::kTestDevice);
    const Variable x = Tape::constant(test::random_normal({2, 3, 7}, 3));
    const Tensor weights = test::random_normal({2, 3, 3}, 4);
    std::vector<Parameter*> parameters = first.parameters();
    for (Parameter* parameter : second.parameters()) parameters.push_back(parameter);
    CHECK(parameters.size() == (bias ? 4 : 2));
    const GradCheckResult result = grad_check(
        [&](Tape& tape) {
          return test::weighted_sum(tape, second.forward(tape, first.forward(tape, x)), weights);
        },
        parameters);
    CHECK_MESSAGE(result.passed, result.where);
  }
}

TEST_CASE("linear: initial range, names, and what is refused") {
  Rng rng(5);
  Linear layer("decoder", 16, 40, rng, true, test::kTestDevice);
  CHECK(layer.weight().name == "decoder.weight");
  CHECK(layer.bias()->name == "decoder.bias");
  float largest = 0;
  for (const float value : layer.weight().value.to_vector<float>()) {
    largest = std::max(largest, std::abs(value));
  }
  CHECK(largest <= 0.25f);
  CHECK(largest > 0.23f);
  CHECK(Linear("plain", 2, 2, rng, false, test::kTestDevice).bias() == nullptr);
  CHECK(test::contains(test::refusal([&] { Linear("empty", 0, 3, rng); }), "0 inputs"));
  Tape tape;
  const Variable x = Tape::constant(test::random_normal({2, 15}, 6));
  CHECK(test::contains(test::refusal([&] { layer.forward(tape, x); }), "[linear]"));
}

}  // namespace sketchgrad
