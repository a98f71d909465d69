#include "sketchgrad/framework/grad_check.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "sketchgrad/framework/ops.h"

namespace sketchgrad {
namespace {

using Values = std::vector<float>;

// sum(x^2) whose backward is right times `factor`, plus `slip` in one element.
Variable squares(Tape& tape, const Variable& x, float factor, int64_t slip_at = -1) {
  double total = 0;
  for (const float value : x.value.to_vector<float>()) total += value * value;
  const Tensor out =
      Tensor::full({1}, static_cast<float>(total), {Category::activation, "squares"});
  return tape.record("squares", out, {&x}, [=, v = x](Tape& t, const Tensor& g) {
    const Tensor grad = v.value.clone({Category::gradient, "squares"});
    for (int64_t i = 0; i < grad.numel(); ++i) {
      grad.data<float>()[i] *= 2 * factor * g.item() * (i == slip_at ? -1.0f : 1.0f);
    }
    t.add_gradient(v, grad);
  });
}

// Row 1 of a table of 4 columns. Its backward is right times `factor`, with `padding` entries of no
// row behind, as a GPU leaves them.
Variable row_1(Tape& tape, const Variable& table, float factor, int64_t padding) {
  const Tensor row = table.value.rows(1, 1).clone({Category::activation, "row"});
  return tape.record("row_1", row, {&table}, [=](Tape& t, const Tensor& g) {
    std::vector<int32_t> ids(static_cast<size_t>(1 + padding), -1);
    ids[0] = 1;
    const Tensor grad = Tensor::zeros({1 + padding, 4}, {Category::gradient, "row"});
    for (int64_t i = 0; i < 4; ++i) grad.data<float>()[i] = factor * g.data<float>()[i];
    RowSparse rows{table.value.size(0), Tensor::from(ids, {1 + padding}, {Category::index, "ids"}),
                   grad};
    rows.coalesced = rows.checked = padding > 0;
    t.add_gradient(table, rows);
  });
}

struct Fixture {
  Parameter x{"x", {3, 4}};
  Fixture() { x.value.fill(0.75f); }
};

TEST_CASE("a right gradient passes") {
  Fixture f;
  const GradCheckResult result =
      grad_check([&](Tape& t) { return squares(t, t.leaf(f.x), 1.0f); }, {&f.x});
  CHECK(result.passed);
  CHECK(result.worst < 1e-3);
  CHECK(result.where.starts_with("x["));
}

TEST_CASE("a gradient off by a factor is caught") {
  Fixture f;
  const GradCheckResult result =
      grad_check([&](Tape& t) { return squares(t, t.leaf(f.x), 1.05f); }, {&f.x});
  CHECK_FALSE(result.passed);
  CHECK(result.worst > 0.04);
}

TEST_CASE("one wrong element is caught and named") {
  Fixture f;
  const GradCheckResult result =
      grad_check([&](Tape& t) { return squares(t, t.leaf(f.x), 1.0f, 7); }, {&f.x});
  CHECK_FALSE(result.passed);
  CHECK(result.where.starts_with("x[7]: analytic -1.5"));
}

TEST_CASE("a missing gradient is caught") {
  Fixture f;
  Parameter used("used", {1});
  const GradCheckResult result = grad_check(
      [&](Tape& t) {
        const Variable ignored = Tape::constant(f.x.value);
        return add(t, sum(t, ignored), sum(t, t.leaf(used)));
      },
      {&f.x, &used});
  CHECK_FALSE(result.passed);
  CHECK(result.where.starts_with("x["));
}

TEST_CASE("a gradient that is not a number is caught") {
  Fixture f;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const GradCheckResult result =
      grad_check([&](Tape& t) { return squares(t, t.leaf(f.x), nan); }, {&f.x});
  CHECK_FALSE(result.passed);
}

TEST_CASE("row-sparse gradients are checked, right and wrong, padding is left out") {
  for (const int64_t padding : {0, 2}) {
    for (const float factor : {1.0f, 2.0f}) {
      Fixture f;
      const auto loss = [&](Tape& t) {
        const Variable row = row_1(t, t.leaf(f.x), factor, padding);
        return sum(t, multiply(t, row, row));
      };
      const GradCheckResult result = grad_check(loss, {&f.x});
      CHECK(result.passed == (factor == 1.0f));
    }
  }
}

TEST_CASE("parameters are restored and gradients cleared, also where the loss throws") {
  Fixture f;
  const Values before = f.x.value.to_vector<float>();
  grad_check([&](Tape& t) { return squares(t, t.leaf(f.x), 1.0f); }, {&f.x});
  CHECK(f.x.value.to_vector<float>() == before);
  CHECK(f.x.gradient.empty());

  int calls = 0;
  const auto failing = [&](Tape& t) {
    if (++calls == 4) throw NumericError("stop");
    return squares(t, t.leaf(f.x), 1.0f);
  };
  CHECK_THROWS_AS(grad_check(failing, {&f.x}), NumericError);
  CHECK(f.x.value.to_vector<float>() == before);
}

TEST_CASE("probes are bounded and reach every column") {
  Parameter x("x", {100, 8});
  x.value.fill(0.5f);
  std::vector<bool> columns(8, false);
  int evaluations = 0;
  const auto loss = [&](Tape& t) {
    ++evaluations;
    const Values values = x.value.to_vector<float>();
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] != 0.5f) columns[i % 8] = true;
    }
    return squares(t, t.leaf(x), 1.0f);
  };
  CHECK(grad_check(loss, {&x}, {.max_elements = 50}).passed);
  CHECK(evaluations == 1 + 2 * 50);
  CHECK(columns == std::vector<bool>(8, true));
}

}  // namespace
}  // namespace sketchgrad
