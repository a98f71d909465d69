#include "sketchgrad/optim/optimizer.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <limits>

#include "sketchgrad/optim/adagrad.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/optim/momentum.h"
#include "sketchgrad/optim/rmsprop.h"
#include "sketchgrad/optim/sgd.h"
#include "sketchgrad/optim/sm3.h"

namespace sketchgrad::test {
namespace {

using nlohmann::json;

json golden(const std::string& name) {
  std::ifstream file(std::string(SKETCHGRAD_SOURCE_DIR) + "/tests/golden/" + name);
  REQUIRE(file);
  return json::parse(file);
}

Tensor tensor_of(const json& array) {
  return Tensor::from(array["data"].get<std::vector<float>>(), array["shape"].get<Shape>(),
                      {Category::gradient, "golden"});
}

Optimizer optimizer_of(const std::string& name, const json& settings) {
  const auto number = [&](const char* key) { return settings.at(key).get<float>(); };
  if (name == "sgd") return Optimizer(Sgd{number("lr")});
  if (name == "momentum" || name == "nesterov") {
    return Optimizer(Momentum{.learning_rate = number("lr"),
                              .momentum = number("momentum"),
                              .nesterov = name == "nesterov"});
  }
  if (name == "adagrad") {
    return Optimizer(
        Adagrad{.learning_rate = number("lr"),
                .epsilon = number("eps"),
                .initial_accumulator = settings.value("initial_accumulator_value", 0.0f)});
  }
  if (name == "rmsprop") {
    return Optimizer(
        Rmsprop{.learning_rate = number("lr"), .decay = number("alpha"), .epsilon = number("eps")});
  }
  REQUIRE((name == "adam" || name == "adamw"));
  return Optimizer(Adam{.learning_rate = number("lr"),
                        .beta1 = number("beta1"),
                        .beta2 = number("beta2"),
                        .epsilon = number("eps"),
                        .weight_decay = name == "adamw" ? number("weight_decay") : 0.0f});
}

void check_close(const Tensor& got, const Tensor& expected) {
  const std::vector<float> a = got.to_vector<float>();
  const std::vector<float> b = expected.to_vector<float>();
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(2e-5));
}

TEST_CASE("dense rules step as PyTorch's") {
  int cases = 0;
  const json all = golden("optimizers.json");
  for (const json& entry : all["cases"]) {
    const std::string name = entry["name"];
    CAPTURE(name);
    const Tensor start = tensor_of(entry["start"]);
    Parameter parameter("weight", start.shape());
    parameter.value.copy_from(start);
    Optimizer optimizer = optimizer_of(name, entry["settings"]);
    optimizer.add(parameter);
    for (size_t t = 0; t < entry["gradients"].size(); ++t) {
      parameter.gradient.add(tensor_of(entry["gradients"][t]));
      optimizer.step();
      optimizer.clear_gradients();
      check_close(parameter.value, tensor_of(entry["after"][t]));
    }
    ++cases;
  }
  CHECK(cases == 8);
}

TEST_CASE("a row-sparse gradient of all rows steps as the dense one") {
  for (const int64_t dim : {1, 7, 33}) {
    const Shape shape{5, dim};
    Parameter dense("weight", shape);
    Parameter sparse("weight", shape);
    Optimizer a(Adam{});
    Optimizer b(Adam{});
    a.add(dense);
    b.add(sparse);
    for (int t = 0; t < 3; ++t) {
      std::vector<float> values(static_cast<size_t>(5 * dim));
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = std::sin(static_cast<float>(i + 9 * t));
      const Tensor gradient = Tensor::from(values, shape, {Category::gradient, "gradient"});
      const std::vector<int32_t> ids{0, 1, 2, 3, 4};
      dense.gradient.add(gradient);
      sparse.gradient.add(
          RowSparse{5, Tensor::from(ids, {5}, {Category::gradient, "ids"}), gradient});
      a.step();
      b.step();
      a.clear_gradients();
      b.clear_gradients();
    }
    CHECK(dense.value.to_vector<float>() == sparse.value.to_vector<float>());
  }
}

TEST_CASE("a parameter without a gradient, or with no active rows, is left alone") {
  Parameter parameter("weight", {3, 2});
  parameter.value.fill(1.0f);
  Optimizer optimizer(Adam{.weight_decay = 0.5f});
  optimizer.add(parameter);
  optimizer.step();
  parameter.gradient.add(RowSparse{3, Tensor::empty({0}, {Category::gradient, "ids"}, DType::int32),
                                   Tensor::empty({0, 2}, {Category::gradient, "values"})});
  optimizer.step();
  CHECK(parameter.value.to_vector<float>() == std::vector<float>(6, 1.0f));
  CHECK(optimizer.steps() == 2);
}

TEST_CASE("memories that do not fit a rule are refused with a reason") {
  Parameter parameter("weight", {100, 4});
  Optimizer adam(Adam{});
  CHECK_THROWS_WITH_AS(adam.add(parameter, {None{}, Dense{}}), doctest::Contains("beta1 = 0"),
                       InvalidArgument);
  CHECK_THROWS_AS(adam.add(parameter, {Dense{}, None{}}), InvalidArgument);
  CHECK_THROWS_AS(adam.add(parameter, {CountMin{}, Dense{}}), InvalidArgument);
  adam.add(parameter);
  CHECK_THROWS_WITH_AS(adam.add(parameter), doctest::Contains("added before"), InvalidArgument);
  Optimizer without_first(Adam{.beta1 = 0.0f, .first = None{}});
  CHECK_NOTHROW(without_first.add(parameter));
  CHECK(without_first.state_bytes().size() == 1);
}

TEST_CASE("settings that a rule cannot have are refused with their names and values") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const auto refuses = [](const auto& rule, const char* message) {
    CAPTURE(message);
    CHECK_THROWS_WITH_AS(Optimizer(rule, 1), doctest::Contains(message), InvalidArgument);
  };
  refuses(Sgd{.learning_rate = nan}, "[sgd] learning_rate is nan");
  refuses(Sgd{.learning_rate = -0.1f}, "[sgd] learning_rate is -0.1");
  refuses(Momentum{.learning_rate = infinity}, "[momentum] learning_rate is inf");
  refuses(Momentum{.momentum = 1.0f}, "[momentum] momentum is 1, it must be from 0 to below 1");
  refuses(Adagrad{.learning_rate = nan}, "[adagrad] learning_rate");
  refuses(Adagrad{.epsilon = -1.0f}, "[adagrad] epsilon is -1");
  refuses(Adagrad{.initial_accumulator = nan}, "[adagrad] initial_accumulator");
  refuses(Rmsprop{.learning_rate = nan}, "[rmsprop] learning_rate");
  refuses(Rmsprop{.decay = 1.5f}, "[rmsprop] decay is 1.5");
  refuses(Rmsprop{.epsilon = nan}, "[rmsprop] epsilon");
  refuses(Adam{.learning_rate = nan}, "[adam] learning_rate");
  refuses(Adam{.beta1 = -0.5f}, "[adam] beta1 is -0.5");
  refuses(Adam{.beta2 = nan}, "[adam] beta2 is nan");
  refuses(Adam{.epsilon = infinity}, "[adam] epsilon");
  refuses(Adam{.weight_decay = -1.0f}, "[adam] weight_decay");
  refuses(Sm3{.learning_rate = nan}, "[sm3] learning_rate");
  refuses(Sm3{.momentum = 1.0f}, "[sm3] momentum");
  refuses(Sm3{.epsilon = nan}, "[sm3] epsilon");
  // A step of 0 and no smoothing are settings like others.
  CHECK_NOTHROW(Optimizer(Adam{.learning_rate = 0.0f, .beta1 = 0.0f, .epsilon = 0.0f}));
}

TEST_CASE("a saved optimizer goes on bit for bit") {
  const std::vector<Moments> memories{
      {Dense{}, Dense{}},
      {CountSketch{.width = 4}, CountMin{.width = 4, .reading = Reading::row_scaled}},
      {CountSketch{.width = 4, .reading = Reading::linear},
       CountMin{.width = 4, .reading = Reading::linear, .cleaning = {0.5f, 3}}}};
  for (const Moments& moments : memories) {
    Parameter a("table", {20, 3});
    Parameter b("table", {20, 3});
    Optimizer whole(Adam{}, 1);
    whole.add(a, moments);
    const auto step = [](Parameter& parameter, Optimizer& optimizer, int t) {
      std::vector<float> values(60);
      for (size_t i = 0; i < values.size(); ++i) values[i] = std::cos(static_cast<float>(i * t));
      parameter.gradient.add(Tensor::from(values, {20, 3}, {Category::gradient, "gradient"}));
      optimizer.step();
      optimizer.clear_gradients();
    };
    for (int t = 1; t <= 4; ++t) step(a, whole, t);
    StateDict state;
    whole.save(state);
    for (auto& [name, tensor] : state.tensors) tensor = tensor.clone({Category::data, "saved"});
    b.value.copy_from(a.value);
    Optimizer resumed(Adam{}, 99);  // another seed: the hashes must come from the state
    resumed.add(b, moments);
    resumed.load(state);
    for (int t = 5; t <= 8; ++t) {
      step(a, whole, t);
      step(b, resumed, t);
    }
    CHECK(a.value.to_vector<float>() == b.value.to_vector<float>());
  }
}

TEST_CASE("loading into another geometry says what differs") {
  Parameter parameter("table", {20, 3});
  Optimizer a(Adam{}, 1);
  a.add(parameter, {CountSketch{.width = 4}, CountMin{.width = 4}});
  StateDict state;
  a.save(state);
  Optimizer b(Adam{}, 1);
  b.add(parameter, {CountSketch{.width = 5}, CountMin{.width = 4}});
  CHECK_THROWS_WITH_AS(b.load(state), doctest::Contains("a width of 4, this optimizer has 5"),
                       InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::test
