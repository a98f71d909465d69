#include "sketchgrad/framework/ops.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cmath>
#include <vector>

#include "sketchgrad/framework/grad_check.h"

namespace sketchgrad {
namespace {

using Values = std::vector<float>;

Tensor data(const Values& values, const Shape& shape) {
  return Tensor::from(values, shape, {Category::data, "test"});
}

void randomise(Parameter& parameter, uint64_t seed, float low = -1.0f, float high = 1.0f) {
  Rng rng(seed);
  init_uniform(parameter, rng, low, high);
}

// A loss that weighs every element of `x` differently, so that a gradient in the wrong place shows.
Variable weighted_sum(Tape& tape, const Variable& x) {
  Values weights(static_cast<size_t>(x.value.numel()));
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = 0.5f + std::sin(static_cast<float>(i));
  }
  return sum(tape, multiply(tape, x, Tape::constant(data(weights, x.value.shape()))));
}

const std::vector<Shape> kOddShapes = {{1}, {7}, {3, 5}, {1, 33}, {2, 3, 5}, {65, 1}};

void check_gradients(const std::function<Variable(Tape&)>& loss,
                     const std::vector<Parameter*>& parameters) {
  const GradCheckResult result = grad_check(loss, parameters, {.step = 1e-2, .tolerance = 2e-3});
  CAPTURE(result.where);
  CHECK(result.passed);
  CHECK(std::isfinite(result.worst));
}

TEST_CASE("binary ops: gradients of both inputs, of each alone, and of one used twice") {
  using Op = Variable (*)(Tape&, const Variable&, const Variable&);
  for (const Op op : {static_cast<Op>(add), static_cast<Op>(subtract), static_cast<Op>(multiply)}) {
    for (const Shape& shape : kOddShapes) {
      Parameter a("a", shape), b("b", shape);
      randomise(a, 1);
      randomise(b, 2);
      check_gradients([&](Tape& t) { return weighted_sum(t, op(t, t.leaf(a), t.leaf(b))); },
                      {&a, &b});
      check_gradients(
          [&](Tape& t) { return weighted_sum(t, op(t, t.leaf(a), Tape::constant(b.value))); },
          {&a});
      check_gradients(
          [&](Tape& t) { return weighted_sum(t, op(t, Tape::constant(a.value), t.leaf(b))); },
          {&b});
      check_gradients(
          [&](Tape& t) {
            const Variable x = scale(t, t.leaf(a), 1.5f);
            return weighted_sum(t, op(t, x, x));
          },
          {&a});
    }
  }
}

TEST_CASE("unary ops: gradients") {
  using Op = Variable (*)(Tape&, const Variable&);
  for (const Op op : {static_cast<Op>(sigmoid), static_cast<Op>(tanh), static_cast<Op>(relu)}) {
    for (const Shape& shape : kOddShapes) {
      Parameter x("x", shape);
      randomise(x, 3, 0.1f, 2.0f);  // clear of the kink of relu
      check_gradients([&](Tape& t) { return weighted_sum(t, op(t, t.leaf(x))); }, {&x});
      if (op == static_cast<Op>(relu)) continue;
      randomise(x, 3, -2.0f, 2.0f);
      check_gradients([&](Tape& t) { return weighted_sum(t, op(t, t.leaf(x))); }, {&x});
    }
  }
}

TEST_CASE("relu passes nothing below zero") {
  Parameter x("x", {4});
  x.value.copy_from(data({-2, -0.5, 0.5, 2}, {4}));
  Tape tape;
  const Variable y = relu(tape, tape.leaf(x));
  CHECK(y.value.to_vector<float>() == Values{0, 0, 0.5, 2});
  tape.backward(sum(tape, y));
  CHECK(x.gradient.dense().to_vector<float>() == Values{0, 0, 1, 1});
}

TEST_CASE("scale, reshape, sum and mean: gradients") {
  for (const Shape& shape : kOddShapes) {
    Parameter x("x", shape);
    randomise(x, 4);
    check_gradients([&](Tape& t) { return weighted_sum(t, scale(t, t.leaf(x), -2.5f)); }, {&x});
    check_gradients([&](Tape& t) { return weighted_sum(t, reshape(t, t.leaf(x), {-1, 1})); }, {&x});
    check_gradients(
        [&](Tape& t) {
          const Variable v = t.leaf(x);
          return add(t, sum(t, multiply(t, v, v)), mean(t, multiply(t, v, v)));
        },
        {&x});
  }
}

TEST_CASE("values of simple ops") {
  Tape tape;
  const Variable a = Tape::constant(data({1, 2, 3, 4}, {2, 2}));
  const Variable b = Tape::constant(data({10, 20, 30, 40}, {2, 2}));
  CHECK(add(tape, a, b).value.to_vector<float>() == Values{11, 22, 33, 44});
  CHECK(subtract(tape, a, b).value.to_vector<float>() == Values{-9, -18, -27, -36});
  CHECK(multiply(tape, a, b).value.to_vector<float>() == Values{10, 40, 90, 160});
  CHECK(scale(tape, a, 0.5f).value.to_vector<float>() == Values{0.5, 1, 1.5, 2});
  CHECK(sum(tape, a).value.item() == 10.0f);
  CHECK(mean(tape, a).value.item() == 2.5f);
  CHECK(reshape(tape, a, {4}).value.shape() == Shape{4});
  CHECK(reshape(tape, a, {4}).value.raw() == a.value.raw());
  CHECK(matmul(tape, a, b).value.to_vector<float>() == Values{70, 100, 150, 220});
  const Variable bias = Tape::constant(data({100, 200}, {2}));
  CHECK(linear(tape, a, b, &bias).value.to_vector<float>() == Values{150, 310, 210, 450});
  CHECK(linear(tape, a, b, nullptr).value.to_vector<float>() == Values{50, 110, 110, 250});
}

TEST_CASE("matmul: gradients") {
  const std::vector<std::vector<int64_t>> sizes = {{1, 1, 1}, {3, 5, 7}, {17, 1, 9}, {1, 33, 2}};
  for (const auto& size : sizes) {
    Parameter a("a", {size[0], size[1]}), b("b", {size[1], size[2]});
    randomise(a, 5);
    randomise(b, 6);
    check_gradients([&](Tape& t) { return weighted_sum(t, matmul(t, t.leaf(a), t.leaf(b))); },
                    {&a, &b});
  }
  Parameter square("square", {4, 4});
  randomise(square, 7);
  check_gradients(
      [&](Tape& t) {
        const Variable v = t.leaf(square);
        return weighted_sum(t, matmul(t, v, v));
      },
      {&square});
}

TEST_CASE("linear: gradients of input, weight and bias") {
  for (const Shape& input : std::vector<Shape>{{5}, {3, 5}, {2, 3, 5}, {1, 1}, {4, 33}}) {
    for (const int64_t out : {1, 3, 17}) {
      Parameter x("x", input), weight("weight", {out, input.back()}), bias("bias", {out});
      randomise(x, 8);
      randomise(weight, 9);
      randomise(bias, 10);
      check_gradients(
          [&](Tape& t) {
            const Variable b = t.leaf(bias);
            return weighted_sum(t, linear(t, t.leaf(x), t.leaf(weight), &b));
          },
          {&x, &weight, &bias});
      check_gradients(
          [&](Tape& t) {
            return weighted_sum(t, linear(t, Tape::constant(x.value), t.leaf(weight), nullptr));
          },
          {&weight});
      check_gradients(
          [&](Tape& t) {
            return weighted_sum(t, linear(t, t.leaf(x), Tape::constant(weight.value), nullptr));
          },
          {&x});
      check_gradients(
          [&](Tape& t) {
            const Variable b = t.leaf(bias);
            return weighted_sum(
                t, linear(t, Tape::constant(x.value), Tape::constant(weight.value), &b));
          },
          {&bias});
    }
  }
}

TEST_CASE("dropout: the mask of the forward pass is that of the backward pass") {
  Parameter x("x", {5, 67});
  randomise(x, 11);
  for (const float probability : {0.0f, 0.25f, 0.9f}) {
    const kernels::PhiloxKey key{12, 34};
    check_gradients(
        [&](Tape& t) { return weighted_sum(t, dropout(t, t.leaf(x), probability, key)); }, {&x});
  }
  Tape tape;
  const Variable leaf = tape.leaf(x);
  CHECK(dropout(tape, leaf, 0.0f, {1, 2}).value.raw() == leaf.value.raw());
}

TEST_CASE("a small network: gradients through everything") {
  Parameter embedding("embedding", {4, 6}), w1("w1", {5, 6}), b1("b1", {5}), w2("w2", {3, 5});
  randomise(embedding, 13);
  randomise(w1, 14);
  randomise(b1, 15);
  randomise(w2, 16);
  check_gradients(
      [&](Tape& t) {
        const Variable bias = t.leaf(b1);
        const Variable x = t.leaf(embedding);
        const Variable h = tanh(t, linear(t, x, t.leaf(w1), &bias));
        const Variable again = add(t, h, sigmoid(t, scale(t, h, 0.5f)));
        const Variable out = linear(t, dropout(t, again, 0.2f, {3, 4}), t.leaf(w2), nullptr);
        return mean(t, multiply(t, out, out));
      },
      {&embedding, &w1, &b1, &w2});
}

TEST_CASE("empty batches pass") {
  Parameter weight("weight", {3, 5}), bias("bias", {3});
  randomise(weight, 17);
  Tape tape;
  const Variable x = Tape::constant(Tensor::zeros({0, 5}, {Category::data, "empty"}));
  const Variable b = tape.leaf(bias);
  const Variable y = linear(tape, x, tape.leaf(weight), &b);
  CHECK(y.value.shape() == Shape{0, 3});
  tape.backward(sum(tape, tanh(tape, y)));
  CHECK(weight.gradient.dense().to_vector<float>() == Values(15, 0.0f));
  CHECK(bias.gradient.dense().to_vector<float>() == Values(3, 0.0f));
}

TEST_CASE("shapes that do not fit are named") {
  Tape tape;
  const Variable a = Tape::constant(data({1, 2, 3, 4, 5, 6}, {2, 3}));
  const Variable b = Tape::constant(data({1, 2, 3, 4, 5, 6}, {3, 2}));
  const Variable row = Tape::constant(data({1, 2, 3}, {3}));
  CHECK_THROWS_WITH_AS(add(tape, a, b), "[add] shapes [2, 3] and [3, 2] must be equal",
                       InvalidArgument);
  CHECK_THROWS_AS(subtract(tape, a, b), InvalidArgument);
  CHECK_THROWS_AS(multiply(tape, a, row), InvalidArgument);
  CHECK_THROWS_AS(matmul(tape, a, a), InvalidArgument);
  CHECK_THROWS_AS(matmul(tape, a, row), InvalidArgument);
  CHECK_THROWS_AS(linear(tape, a, b, nullptr), InvalidArgument);
  CHECK_THROWS_AS(linear(tape, a, a, &row), InvalidArgument);
  CHECK_THROWS_AS(reshape(tape, a, {4}), InvalidArgument);
  CHECK_THROWS_AS(dropout(tape, a, 1.0f, {0, 0}), InvalidArgument);
  CHECK_THROWS_AS(dropout(tape, a, -0.1f, {0, 0}), InvalidArgument);
  CHECK_THROWS_AS(dropout(tape, a, std::nanf(""), {0, 0}), InvalidArgument);
  CHECK_THROWS_AS(mean(tape, Tape::constant(Tensor::zeros({0}, {Category::data, "empty"}))),
                  InvalidArgument);
}

TEST_CASE("the same bits for any number of threads") {
  const auto gradients = [](size_t threads) {
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism, threads);
    Parameter x("x", {300, 129}), weight("weight", {65, 129}), bias("bias", {65});
    randomise(x, 18);
    randomise(weight, 19);
    Tape tape;
    const Variable b = tape.leaf(bias);
    const Variable y = tanh(tape, linear(tape, tape.leaf(x), tape.leaf(weight), &b));
    tape.backward(mean(tape, multiply(tape, y, y)));
    Values all = x.gradient.dense().to_vector<float>();
    for (Parameter* parameter : {&weight, &bias}) {
      const Values more = parameter->gradient.dense().to_vector<float>();
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  };
  CHECK(gradients(1) == gradients(2));
}

}  // namespace
}  // namespace sketchgrad
