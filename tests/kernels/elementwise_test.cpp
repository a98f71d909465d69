#include "sketchgrad/kernels/elementwise.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "sketchgrad/kernels/elementwise_impl.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;
using namespace sketchgrad::test;

namespace {

constexpr int64_t kSizes[] = {0, 1, 7, 33, 3 * kBlockElements + 5};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

double reference(Unary op, double x) {
  switch (op) {
    case Unary::relu:
      return x > 0 ? x : 0;
    case Unary::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Unary::tanh:
      return std::tanh(x);
  }
  return 0;
}

double reference_gradient(Unary op, double y) {
  switch (op) {
    case Unary::relu:
      return y > 0 ? 1 : 0;
    case Unary::sigmoid:
      return y * (1 - y);
    case Unary::tanh:
      return 1 - y * y;
  }
  return 0;
}

double reference(Binary op, double a, double b) {
  switch (op) {
    case Binary::add:
      return a + b;
    case Binary::subtract:
      return a - b;
    case Binary::multiply:
      return a * b;
  }
  return 0;
}

}  // namespace

TEST_CASE("elementwise: fill, copy, scale and add_scaled") {
  const Exec exec = cpu_exec();
  for (const int64_t count : kSizes) {
    CAPTURE(count);
    const std::vector<float> in = random_floats(count, 1), before = random_floats(count, 2);
    std::vector<float> out = before;
    add_scaled(exec, in.data(), -0.75f, out.data(), count);
    CHECK(largest_error(out, [&](size_t i) { return before[i] - 0.75 * in[i]; }) < 1e-7);
    scale(exec, in.data(), 3.0f, out.data(), count);
    CHECK(largest_error(out, [&](size_t i) { return 3.0 * in[i]; }) < 1e-7);
    scale(exec, out.data(), 0.5f, out.data(), count);
    CHECK(largest_error(out, [&](size_t i) { return 1.5 * in[i]; }) < 2e-7);
    copy(exec, in.data(), out.data(), count);
    CHECK(same_bits(in, out));
    fill(exec, out.data(), count, 0.25f);
    CHECK(out == std::vector<float>(in.size(), 0.25f));
  }
}

TEST_CASE("elementwise: activations and their gradients against double precision") {
  const Exec exec = cpu_exec();
  for (const Unary op : {Unary::relu, Unary::sigmoid, Unary::tanh}) {
    for (const int64_t count : kSizes) {
      CAPTURE(static_cast<int>(op));
      CAPTURE(count);
      const std::vector<float> in = random_floats(count, 3, -20.0f, 20.0f);
      const std::vector<float> grad_out = random_floats(count, 4);
      std::vector<float> out(in.size()), grad_in(in.size());
      unary(exec, op, in.data(), out.data(), count);
      CHECK(largest_error(out, [&](size_t i) { return reference(op, in[i]); }) < 4e-7);
      unary_backward(exec, op, out.data(), grad_out.data(), grad_in.data(), count);
      CHECK(largest_error(grad_in, [&](size_t i) {
              return grad_out[i] * reference_gradient(op, out[i]);
            }) < 4e-7);

      std::vector<float> in_place = in;
      unary(exec, op, in_place.data(), in_place.data(), count);
      CHECK(same_bits(in_place, out));
    }
  }
}

TEST_CASE("elementwise: activations at the ends of the float range") {
  const Exec exec = cpu_exec();
  const std::vector<float> in = {-kInfinity, -1e30f, 0.0f, 1e30f, kInfinity, kNan};
  const auto values = [&](Unary op) {
    std::vector<float> out(in.size());
    unary(exec, op, in.data(), out.data(), static_cast<int64_t>(in.size()));
    CHECK(std::isnan(out.back()));
    out.pop_back();
    return out;
  };
  CHECK(values(Unary::relu) == std::vector<float>{0, 0, 0, 1e30f, kInfinity});
  CHECK(values(Unary::sigmoid) == std::vector<float>{0, 0, 0.5f, 1, 1});
  CHECK(values(Unary::tanh) == std::vector<float>{-1, -1, 0, 1, 1});
}

TEST_CASE("elementwise: a closed relu stops an infinite gradient") {
  const std::vector<float> out = {0.0f, 1.0f}, grad_out = {kInfinity, kInfinity};
  std::vector<float> grad_in(2);
  unary_backward(cpu_exec(), Unary::relu, out.data(), grad_out.data(), grad_in.data(), 2);
  CHECK(grad_in == std::vector<float>{0.0f, kInfinity});
}

TEST_CASE("elementwise: binary operations") {
  const Exec exec = cpu_exec();
  for (const Binary op : {Binary::add, Binary::subtract, Binary::multiply}) {
    for (const int64_t count : kSizes) {
      CAPTURE(static_cast<int>(op));
      CAPTURE(count);
      const std::vector<float> a = random_floats(count, 5), b = random_floats(count, 6);
      std::vector<float> out(a.size());
      binary(exec, op, a.data(), b.data(), out.data(), count);
      CHECK(largest_error(out, [&](size_t i) { return reference(op, a[i], b[i]); }) < 1.2e-7);
    }
  }
}

TEST_CASE("elementwise: add_row leaves the padding of a strided matrix alone") {
  const Exec exec = cpu_exec();
  for (const int64_t rows : {0, 1, 600}) {
    for (const int64_t cols : {1, 7, 33}) {
      CAPTURE(rows);
      CAPTURE(cols);
      const int64_t stride = cols + 3;
      const std::vector<float> before = random_floats(rows * stride, 7);
      const std::vector<float> row = random_floats(cols, 8);
      std::vector<float> out = before;
      add_row(exec, {out.data(), rows, cols, stride}, row.data());
      CHECK(largest_error(out, [&](size_t i) {
              const size_t c = i % static_cast<size_t>(stride);
              return before[i] + (c < row.size() ? double{row[c]} : 0.0);
            }) < 1.2e-7);
    }
  }
}

TEST_CASE("elementwise: the serial policy and any number of threads give the same bits") {
  const int64_t count = 9 * kBlockElements + 11;
  const std::vector<float> in = random_floats(count, 9, -5.0f, 5.0f);
  std::vector<float> serial(in.size());
  impl::unary(SerialPolicy{}, Unary::tanh, in.data(), serial.data(), count);
  const auto parallel = [&] {
    std::vector<float> out(in.size());
    unary(cpu_exec(), Unary::tanh, in.data(), out.data(), count);
    return out;
  };
  CHECK(same_bits(serial, with_threads(1, parallel)));
  CHECK(same_bits(serial, with_threads(2, parallel)));
}

TEST_CASE("elementwise: what cannot be right is refused") {
  const Exec exec = cpu_exec();
  float value[4] = {};
  CHECK_THROWS_WITH_AS(fill(exec, value, -1, 0), "[fill] count is -1, it must not be negative",
                       InvalidArgument);
  CHECK_THROWS_WITH_AS(copy(exec, nullptr, value, 4), "[copy] in is null, it must hold 4 elements",
                       InvalidArgument);
  CHECK_THROWS_AS(scale(exec, value, 1, nullptr, 4), InvalidArgument);
  CHECK_THROWS_AS(add_scaled(exec, value, 1, nullptr, 4), InvalidArgument);
  CHECK_THROWS_AS(unary(exec, Unary::relu, nullptr, value, 4), InvalidArgument);
  CHECK_THROWS_AS(unary_backward(exec, Unary::relu, value, nullptr, value, 4), InvalidArgument);
  CHECK_THROWS_AS(binary(exec, Binary::add, value, nullptr, value, 4), InvalidArgument);
  CHECK_THROWS_AS(add_row(exec, {value, 2, 2, 2}, nullptr), InvalidArgument);
  CHECK_THROWS_WITH_AS(add_row(exec, {value, 2, 2, 1}, value),
                       "[add_row] matrix has a stride of 1, it must be at least its 2 columns",
                       InvalidArgument);
  CHECK_NOTHROW(fill(exec, nullptr, 0, 0));
}
