#include "sketchgrad/kernels/lstm.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/lstm_impl.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;

namespace {

struct Cell {
  Cell(int64_t batch_, int64_t units_, uint32_t seed = 1)
      : batch(batch_),
        units(units_),
        gates(random(batch * 4 * units, 2.0f, seed)),
        bias_input(random(4 * units, 0.5f, seed + 1)),
        bias_hidden(random(4 * units, 0.5f, seed + 2)),
        c_previous(random(batch * units, 1.0f, seed + 3)),
        grad_h(random(batch * units, 1.0f, seed + 4)),
        grad_c(random(batch * units, 1.0f, seed + 5)),
        c(grad_c.size()),
        h(grad_c.size()) {}

  static std::vector<float> random(int64_t count, float spread, uint32_t seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(engine);
    return values;
  }
  Matrix gate_matrix() { return contiguous(gates.data(), batch, 4 * units); }
  Matrix matrix(std::vector<float>& values) { return contiguous(values.data(), batch, units); }

  void forward() {
    lstm_cell_forward(test::cpu_exec(), gate_matrix(), bias_input.data(), bias_hidden.data(),
                      matrix(c_previous), matrix(c), matrix(h));
  }
  void backward() {
    lstm_cell_backward(test::cpu_exec(), gate_matrix(), matrix(c_previous), matrix(c),
                       matrix(grad_h), matrix(grad_c));
  }

  int64_t batch, units;
  std::vector<float> gates, bias_input, bias_hidden, c_previous, grad_h, grad_c, c, h;
};

// One unit in double precision: pre-activations a of i, f, g, o, and the previous state.
struct Unit {
  double a[4], c_previous;

  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
  double c() const { return sigmoid(a[1]) * c_previous + sigmoid(a[0]) * std::tanh(a[2]); }
  double h() const { return sigmoid(a[3]) * std::tanh(c()); }
};

Unit unit_of(const Cell& cell, int64_t r, int64_t j) {
  Unit unit{};
  for (int64_t gate = 0; gate < 4; ++gate) {
    const auto column = static_cast<size_t>(gate * cell.units + j);
    const auto at = static_cast<size_t>(r * 4 * cell.units) + column;
    unit.a[gate] =
        double{cell.gates[at]} + double{cell.bias_input[column]} + double{cell.bias_hidden[column]};
  }
  unit.c_previous = double{cell.c_previous[static_cast<size_t>(r * cell.units + j)]};
  return unit;
}

bool near(float actual, double expected, double tolerance) {
  return std::fabs(actual - expected) <= tolerance * (1 + std::fabs(expected));
}

struct Shape {
  int64_t batch, units;
};
const std::vector<Shape> kShapes = {{0, 7}, {3, 0}, {1, 1}, {1, 7}, {3, 33}, {20, 200}, {700, 65}};

}  // namespace

TEST_CASE("lstm cell agrees with double precision") {
  for (const Shape shape : kShapes) {
    Cell cell(shape.batch, shape.units);
    const Cell before = cell;
    cell.forward();
    int64_t wrong = 0;
    for (int64_t r = 0; r < shape.batch; ++r) {
      for (int64_t j = 0; j < shape.units; ++j) {
        const Unit unit = unit_of(before, r, j);
        wrong += !near(cell.matrix(cell.c)(r, j), unit.c(), 1e-6);
        wrong += !near(cell.matrix(cell.h)(r, j), unit.h(), 1e-6);
        for (int64_t gate = 0; gate < 4; ++gate) {
          const double active = gate == 2 ? std::tanh(unit.a[gate]) : Unit::sigmoid(unit.a[gate]);
          wrong += !near(cell.gate_matrix()(r, gate * shape.units + j), active, 1e-6);
        }
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("lstm cell's gradient agrees with differences of the double-precision cell") {
  for (const Shape shape : kShapes) {
    Cell cell(shape.batch, shape.units);
    const Cell before = cell;
    cell.forward();
    cell.backward();
    int64_t wrong = 0;
    for (int64_t r = 0; r < shape.batch; ++r) {
      for (int64_t j = 0; j < shape.units; ++j) {
        const auto at = static_cast<size_t>(r * shape.units + j);
        const auto slope = [&](auto&& variable) {
          constexpr double kStep = 1e-5;
          Unit plus = unit_of(before, r, j), minus = plus;
          variable(plus) += kStep;
          variable(minus) -= kStep;
          return (before.grad_h[at] * (plus.h() - minus.h()) +
                  before.grad_c[at] * (plus.c() - minus.c())) /
                 (2 * kStep);
        };
        wrong += !near(cell.grad_c[at],
                       slope([](Unit& unit) -> double& { return unit.c_previous; }), 2e-6);
        for (int64_t gate = 0; gate < 4; ++gate) {
          wrong += !near(cell.gate_matrix()(r, gate * shape.units + j),
                         slope([&](Unit& unit) -> double& { return unit.a[gate]; }), 2e-6);
        }
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("lstm cell may overwrite the previous state") {
  Cell apart(20, 33), together(20, 33);
  apart.forward();
  lstm_cell_forward(test::cpu_exec(), together.gate_matrix(), together.bias_input.data(),
                    together.bias_hidden.data(), together.matrix(together.c_previous),
                    together.matrix(together.c_previous), together.matrix(together.h));
  CHECK(together.c_previous == apart.c);
  CHECK(together.h == apart.h);
}

TEST_CASE("lstm cell walks rows with strides") {
  Cell cell(3, 7), wide(3, 14);
  const auto narrow = [&](std::vector<float>& values, std::vector<float>& from) {
    const Matrix view = wide.matrix(values).columns(2, 7);
    for (int64_t r = 0; r < 3; ++r) {
      for (int64_t j = 0; j < 7; ++j) view(r, j) = cell.matrix(from)(r, j);
    }
    return view;
  };
  const Matrix c_previous = narrow(wide.c_previous, cell.c_previous);
  const Matrix gates = wide.gate_matrix().columns(5, 28);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t j = 0; j < 28; ++j) gates(r, j) = cell.gate_matrix()(r, j);
  }
  const Matrix c = wide.matrix(wide.c).columns(1, 7), h = wide.matrix(wide.h).columns(7, 7);
  lstm_cell_forward(test::cpu_exec(), gates, cell.bias_input.data(), cell.bias_hidden.data(),
                    c_previous, c, h);
  cell.forward();
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t j = 0; j < 7; ++j) {
      CHECK(c(r, j) == cell.matrix(cell.c)(r, j));
      CHECK(h(r, j) == cell.matrix(cell.h)(r, j));
    }
  }
}

TEST_CASE("lstm cell saturates without NaN") {
  Cell cell(1, 8);
  for (size_t i = 0; i < cell.gates.size(); ++i) cell.gates[i] = i % 2 == 0 ? 1e30f : -1e30f;
  cell.forward();
  cell.backward();
  for (const std::vector<float>* values : {&cell.gates, &cell.c, &cell.h, &cell.grad_c}) {
    for (const float value : *values) CHECK(std::isfinite(value));
  }
}

TEST_CASE("lstm cell is the same under the serial and the TBB policy, and for any thread count") {
  const auto run = [](const auto& policy) {
    Cell cell(700, 65);
    impl::lstm_cell_forward(policy, cell.gate_matrix(), cell.bias_input.data(),
                            cell.bias_hidden.data(), cell.matrix(cell.c_previous),
                            cell.matrix(cell.c), cell.matrix(cell.h));
    impl::lstm_cell_backward(policy, cell.gate_matrix(), cell.matrix(cell.c_previous),
                             cell.matrix(cell.c), cell.matrix(cell.grad_h),
                             cell.matrix(cell.grad_c));
    cell.gates.insert(cell.gates.end(), cell.h.begin(), cell.h.end());
    return cell.gates;
  };
  CHECK(run(SerialPolicy{}) == run(TbbPolicy{}));

  const auto run_with_threads = [](size_t threads) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    Cell cell(700, 65);
    cell.forward();
    cell.backward();
    return cell.gates;
  };
  CHECK(run_with_threads(1) == run_with_threads(2));
}

TEST_CASE("lstm cell refuses shapes that do not fit") {
  Cell cell(3, 5), other(3, 4);
  const Exec exec = test::cpu_exec();
  CHECK_THROWS_WITH_AS(
      lstm_cell_forward(exec, other.gate_matrix(), cell.bias_input.data(), cell.bias_hidden.data(),
                        cell.matrix(cell.c_previous), cell.matrix(cell.c), cell.matrix(cell.h)),
      "[lstm_cell_forward] gates are [3, 16], they must be [3, 20], 4 for each of c's columns",
      InvalidArgument);
  CHECK_THROWS_AS(
      lstm_cell_forward(exec, cell.gate_matrix(), cell.bias_input.data(), nullptr,
                        cell.matrix(cell.c_previous), cell.matrix(cell.c), cell.matrix(cell.h)),
      InvalidArgument);
  CHECK_THROWS_AS(
      lstm_cell_backward(exec, cell.gate_matrix(), cell.matrix(cell.c_previous),
                         cell.matrix(cell.c), other.matrix(other.grad_h), cell.matrix(cell.grad_c)),
      InvalidArgument);
}
