#include "sketchgrad/layers/dropout.h"

#include <doctest/doctest.h>

#include <limits>

#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {

TEST_CASE("dropout: scales what it keeps, and its gradient has the same mask") {
  Rng rng(1);
  Dropout layer(0.3f, rng);
  Parameter x("x", {100, 101}, test::kTestDevice);
  x.value.fill(1.0f);
  Tape tape;
  const Variable y = layer.forward(tape, tape.leaf(x));
  const std::vector<float> values = y.value.to_vector<float>();
  int64_t kept = 0;
  for (const float value : values) {
    CHECK((value == 0.0f || value == doctest::Approx(1.0 / 0.7)));
    kept += value != 0.0f;
  }
  CHECK(static_cast<double>(kept) / 10100.0 == doctest::Approx(0.7).epsilon(0.03));
  tape.backward(sum(tape, y));
  CHECK(test::full_gradient(x) == values);
}

TEST_CASE("dropout: a new mask each time, and the same ones from the same seed") {
  Rng rng(2), same(2);
  Dropout layer(0.5f, rng), twin(0.5f, same);
  const Variable x = Tape::constant(test::random_normal({300}, 3));
  Tape tape;
  const std::vector<float> first = layer.forward(tape, x).value.to_vector<float>();
  const std::vector<float> second = layer.forward(tape, x).value.to_vector<float>();
  CHECK(first != second);
  CHECK(twin.forward(tape, x).value.to_vector<float>() == first);
  CHECK(twin.forward(tape, x).value.to_vector<float>() == second);
}

TEST_CASE("dropout: the identity in evaluation and with probability 0") {
  Rng rng(4);
  Dropout layer(0.5f, rng), none(0.0f, rng);
  layer.set_training(false);
  const Variable x = Tape::constant(test::random_normal({5}, 5));
  Tape tape;
  CHECK(layer.forward(tape, x).value.raw() == x.value.raw());
  CHECK(none.forward(tape, x).value.raw() == x.value.raw());
  CHECK(rng.offset() == 0);
}

TEST_CASE("dropout: probabilities that it refuses") {
  Rng rng(6);
  for (const float bad : {-0.1f, 1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK(test::contains(test::refusal([&] { Dropout(bad, rng); }), "[dropout] probability"));
  }
}

}  // namespace sketchgrad
