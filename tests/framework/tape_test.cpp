#include "sketchgrad/framework/tape.h"

#include <doctest/doctest.h>

#include <vector>

#include "sketchgrad/framework/ops.h"
#include "sketchgrad/tests/support/memory_log.h"

namespace sketchgrad {
namespace {

using Values = std::vector<float>;

Parameter& set(Parameter& parameter, const Values& values) {
  parameter.value.copy_from(
      Tensor::from(values, parameter.value.shape(), {Category::data, "test"}));
  return parameter;
}

int64_t activation_bytes() { return allocator().current()[Category::activation]; }

// The rows of a table, with a row-sparse gradient.
Variable lookup(Tape& tape, const Variable& table, const std::vector<int32_t>& ids) {
  const auto count = static_cast<int64_t>(ids.size());
  const int64_t cols = table.value.size(1);
  const Tensor out = Tensor::empty({count, cols}, {Category::activation, "lookup"});
  const Tensor id_tensor = Tensor::from(ids, {count}, {Category::index, "lookup.ids"});
  for (int64_t i = 0; i < count; ++i) {
    out.rows(i, 1).copy_from(table.value.rows(ids[static_cast<size_t>(i)], 1));
  }
  return tape.record("lookup", out, {&table},
                     [place = table.place(), id_tensor, table_rows = table.value.size(0)](
                         Tape& t, const Tensor& g) {
                       t.add_gradient(place, RowSparse{table_rows, id_tensor, g, false});
                     });
}

TEST_CASE("backward fills gradients and frees every activation") {
  Parameter weight("weight", {3, 4});
  Parameter bias("bias", {3});
  weight.value.fill(0.5f);
  const int64_t before = activation_bytes();
  {
    Tape tape;
    const Tensor input = Tensor::full({5, 4}, 1.0f, {Category::data, "input"});
    const auto loss_of = [&] {
      const Variable b = tape.leaf(bias);
      const Variable hidden =
          tanh(tape, linear(tape, Tape::constant(input), tape.leaf(weight), &b));
      return sum(tape, multiply(tape, hidden, sigmoid(tape, hidden)));
    };
    const Variable loss = loss_of();
    CHECK(activation_bytes() > before + 4);
    tape.backward(loss);
    CHECK(activation_bytes() == before + 4);  // the loss itself
  }
  CHECK(activation_bytes() == before);
  CHECK(weight.gradient.kind() == Gradient::Kind::dense);
  CHECK(bias.gradient.dense().shape() == Shape{3});
}

TEST_CASE("nodes are freed as they are passed, not at the end") {
  Parameter x("x", {1000});
  const int64_t before = allocator().current().total;
  Tape tape;
  std::vector<int64_t> seen;
  const auto watch = [&](const Variable& v) {
    return tape.record("watch", v.value, {&v}, [&seen, p = v.place()](Tape& t, const Tensor& g) {
      seen.push_back(activation_bytes());
      t.add_gradient(p, g);
    });
  };
  {
    Variable v = tape.leaf(x);
    for (int i = 0; i < 4; ++i) v = watch(sigmoid(tape, v));
    v = sum(tape, v);
    tape.backward(v);
  }
  REQUIRE(seen.size() == 4);
  for (size_t i = 1; i < seen.size(); ++i) CHECK(seen[i] == seen[i - 1] - 4000);
  x.gradient.clear();
  CHECK(allocator().current().total == before);
}

TEST_CASE("a chain of elementwise ops holds one gradient at a time") {
  Parameter x("x", {1000});
  Tape tape;
  Variable v = tape.leaf(x);
  for (int i = 0; i < 10; ++i) v = scale(tape, v, 2.0f);
  v = sum(tape, v);
  allocator().reset_peak();
  const int64_t before = allocator().current()[Category::gradient];
  tape.backward(v);
  CHECK(allocator().peak()[Category::gradient] - before <= 4004);
  CHECK(x.gradient.dense().to_vector<float>() == Values(1000, 1024.0f));
}

TEST_CASE("diamonds add up") {
  Parameter x("x", {3});
  set(x, {1, 2, 3});
  Tape tape;
  const Variable v = scale(tape, tape.leaf(x), 1.0f);
  // (v + v) + (v - 2v): d/dx = 2 + 1 - 2 = 1; every op passes its gradient on to two inputs.
  const Variable left = add(tape, v, v);
  const Variable right = subtract(tape, v, scale(tape, v, 2.0f));
  tape.backward(sum(tape, add(tape, left, right)));
  CHECK(x.gradient.dense().to_vector<float>() == Values{1, 1, 1});
}

TEST_CASE("a gradient passed on to two inputs is not changed through one of them") {
  Parameter x("x", {2});
  Parameter y("y", {2});
  Tape tape;
  const Variable a = scale(tape, tape.leaf(x), 1.0f);
  const Variable b = scale(tape, tape.leaf(y), 1.0f);
  const Variable shared = add(tape, a, b);
  // a gets a second contribution, which must not reach b.
  tape.backward(sum(tape, add(tape, scale(tape, a, 10.0f), shared)));
  CHECK(x.gradient.dense().to_vector<float>() == Values{11, 11});
  CHECK(y.gradient.dense().to_vector<float>() == Values{1, 1});
}

TEST_CASE("parameters that adopted one tensor stay apart") {
  Parameter x("x", {2});
  Parameter y("y", {2});
  Tape tape;
  tape.backward(sum(tape, add(tape, tape.leaf(x), tape.leaf(y))));
  x.gradient.add(Tensor::full({2}, 5.0f, {Category::gradient, "more"}));
  CHECK(x.gradient.dense().to_vector<float>() == Values{6, 6});
  CHECK(y.gradient.dense().to_vector<float>() == Values{1, 1});
}

TEST_CASE("a parameter used twice") {
  Parameter x("x", {2});
  set(x, {3, 4});
  Tape tape;
  tape.backward(sum(tape, multiply(tape, tape.leaf(x), tape.leaf(x))));
  CHECK(x.gradient.dense().to_vector<float>() == Values{6, 8});
  x.gradient.clear();
  Tape again;
  const Variable leaf = again.leaf(x);
  again.backward(sum(again, multiply(again, leaf, leaf)));
  CHECK(x.gradient.dense().to_vector<float>() == Values{6, 8});
}

TEST_CASE("gradients of several backward passes add up") {
  Parameter x("x", {2});
  for (int i = 0; i < 3; ++i) {
    Tape tape;
    tape.backward(sum(tape, tape.leaf(x)), 0.5f);
  }
  CHECK(x.gradient.dense().to_vector<float>() == Values{1.5f, 1.5f});
}

TEST_CASE("row-sparse and dense gradients of one parameter") {
  Parameter table("table", {3, 2});
  set(table, {1, 2, 3, 4, 5, 6});
  {
    Tape tape;
    tape.backward(sum(tape, lookup(tape, tape.leaf(table), {2, 0, 2})));
  }
  CHECK(table.gradient.kind() == Gradient::Kind::row_sparse);
  CHECK(table.gradient.rows().ids.to_vector<int32_t>() == std::vector<int32_t>{0, 2});
  CHECK(table.gradient.values().to_vector<float>() == Values{1, 1, 2, 2});
  table.gradient.clear();
  for (const bool dense_first : {true, false}) {
    Tape tape;
    const Variable leaf = tape.leaf(table);
    const Variable rows = sum(tape, lookup(tape, leaf, {2, 0, 2}));
    const Variable whole = sum(tape, scale(tape, leaf, 10.0f));
    tape.backward(dense_first ? add(tape, rows, whole) : add(tape, whole, rows));
    CHECK(table.gradient.dense().to_vector<float>() == Values{11, 11, 10, 10, 12, 12});
    table.gradient.clear();
  }
}

TEST_CASE("row-sparse gradients want a table") {
  Parameter x("x", {3, 2});
  const RowSparse good{3, Tensor::from<int32_t>({0}, {1}, {Category::index, "ids"}),
                       Tensor::zeros({1, 2}, {Category::gradient, "values"}), false};
  Tape tape;
  const Variable leaf = tape.leaf(x);
  CHECK_NOTHROW(tape.add_gradient(leaf, good));
  CHECK_THROWS_AS(tape.add_gradient(scale(tape, leaf, 1.0f), good), InvalidArgument);
  RowSparse wrong = good;
  wrong.table_rows = 4;
  CHECK_THROWS_AS(tape.add_gradient(leaf, wrong), InvalidArgument);
  CHECK_THROWS_AS(tape.add_gradient(leaf, RowSparse{}), InvalidArgument);
}

TEST_CASE("a tape that does not record keeps nothing") {
  Parameter x("x", {2});
  const int64_t before = activation_bytes();
  Tape tape(/*recording=*/false);
  {
    const Variable v = sigmoid(tape, sigmoid(tape, tape.leaf(x)));
    CHECK_FALSE(v.needs_gradient());
    CHECK(activation_bytes() == before + 8);
  }
  CHECK(activation_bytes() == before);
  CHECK_THROWS_AS(tape.backward(sum(tape, tape.leaf(x))), InvalidArgument);
}

TEST_CASE("constants and what follows from them alone get no gradient") {
  Parameter x("x", {2});
  Tape tape;
  const Variable c = Tape::constant(Tensor::full({2}, 3.0f, {Category::data, "c"}));
  const Variable d = scale(tape, c, 2.0f);
  CHECK_FALSE(d.needs_gradient());
  CHECK_FALSE(tape.any_needs_gradient({&c, &d, nullptr}));
  tape.backward(sum(tape, multiply(tape, d, tape.leaf(x))));
  CHECK(x.gradient.dense().to_vector<float>() == Values{6, 6});
}

TEST_CASE("what the loss does not depend on is freed and gets no gradient") {
  Parameter x("x", {2});
  Parameter y("y", {2});
  const int64_t before = activation_bytes();
  Tape tape;
  tape.backward([&] {
    const Variable loss = sum(tape, tape.leaf(x));
    sigmoid(tape, tape.leaf(y));
    return loss;
  }());
  CHECK(x.gradient.kind() == Gradient::Kind::dense);
  CHECK(y.gradient.empty());
  CHECK(activation_bytes() == before);
}

TEST_CASE("errors of backward") {
  Parameter x("x", {2});
  Tape tape;
  const Variable leaf = tape.leaf(x);
  const Variable loss = sum(tape, leaf);
  CHECK_THROWS_AS(tape.backward(leaf), InvalidArgument);
  CHECK_THROWS_AS(
      tape.backward(Tape::constant(Tensor::full({1}, 1.0f, {Category::data, "constant"}))),
      InvalidArgument);
  CHECK_THROWS_WITH_AS(tape.add_gradient(loss, Tensor::zeros({2}, {Category::gradient, "wrong"})),
                       "[sum] a gradient of shape [2] for a value of shape [1]", InvalidArgument);
  tape.backward(loss);
  CHECK_THROWS_AS(tape.backward(loss), InvalidArgument);
}

TEST_CASE("memory records name the op and its direction") {
  Parameter x("x", {2});
  const test::MemoryLog log(allocator());
  {
    const MemoryScope scope("step");
    Tape tape;
    tape.backward(sum(tape, multiply(tape, tape.leaf(x), tape.leaf(x))));
  }
  bool forward = false, backward = false;
  for (const test::LoggedEvent& event : log.events()) {
    forward |= event.scope == "step/multiply" && event.category == Category::activation;
    backward |= event.scope == "step/multiply.backward" && event.category == Category::gradient;
  }
  CHECK(forward);
  CHECK(backward);
}

}  // namespace
}  // namespace sketchgrad
