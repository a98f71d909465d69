#include "sketchgrad/kernels/update.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/update_impl.h"
#include "sketchgrad/tests/support/test_exec.h"

namespace sketchgrad::kernels {
namespace {

using test::cpu_exec;

std::vector<float> uniforms(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0.1f, 1.0f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

struct Shape {
  int64_t table_rows;
  int64_t active;
  int64_t dim;
};

TEST_CASE("Adam over dense state, against double, in all shapes") {
  for (const Shape& shape : {Shape{5, 5, 1}, Shape{9, 4, 7}, Shape{6, 1, 33}, Shape{1, 1, 40000},
                             Shape{3000, 2000, 17}}) {
    CAPTURE(shape.dim);
    const int64_t cells = shape.table_rows * shape.dim;
    std::vector<float> w = uniforms(cells, 1), m = uniforms(cells, 2), v = uniforms(cells, 4);
    const std::vector<float> g = uniforms(shape.active * shape.dim, 3);
    std::vector<int32_t> ids;
    for (int64_t r = 0; r < shape.active; ++r) {
      ids.push_back(static_cast<int32_t>(shape.table_rows - shape.active + r));
    }
    const AdamRule rule{0.1f, 1.5f, 1e-3f, 0.99f};
    const Accumulate first{0.9f, 0.1f, false}, second{0.99f, 0.01f, true};
    std::vector<double> expected(w.begin(), w.end());
    for (int64_t r = 0; r < shape.active; ++r) {
      for (int64_t c = 0; c < shape.dim; ++c) {
        const size_t at = static_cast<size_t>(ids[static_cast<size_t>(r)] * shape.dim + c);
        const size_t entry = static_cast<size_t>(r * shape.dim + c);
        const double gradient = g[entry];
        const double moment1 = 0.9 * m[at] + 0.1 * gradient;
        const double moment2 = 0.99 * v[at] + 0.01 * gradient * gradient;
        expected[at] = 0.99 * expected[at] - 0.1 * moment1 / (std::sqrt(moment2) * 1.5 + 1e-3);
      }
    }
    std::vector<float> w_serial = w, m_serial = m, v_serial = v;
    const auto state = [&](std::vector<float>& values, const Accumulate& accumulate) {
      return DenseState{contiguous(values.data(), shape.table_rows, shape.dim), accumulate};
    };
    const ConstMatrix gradient = contiguous<const float>(g.data(), shape.active, shape.dim);
    update_rows(cpu_exec(), rule, state(m, first), state(v, second), ids.data(), gradient,
                contiguous(w.data(), shape.table_rows, shape.dim));
    update_rows_impl(SerialPolicy{}, rule, state(m_serial, first), state(v_serial, second),
                     ids.data(), gradient,
                     contiguous(w_serial.data(), shape.table_rows, shape.dim));
    CHECK(w == w_serial);
    CHECK(m == m_serial);
    CHECK(v == v_serial);
    for (size_t i = 0; i < w.size(); ++i) {
      REQUIRE(w[i] == doctest::Approx(expected[i]).epsilon(1e-5));
    }
  }
}

TEST_CASE("shapes that do not fit are refused") {
  std::vector<float> values(100);
  const Matrix parameter = contiguous(values.data(), 4, 5);
  const ConstMatrix gradient = contiguous<const float>(values.data(), 3, 5);
  const int32_t ids[3] = {0, 1, 3};
  const auto update = [&](const StateAccess& state, const int32_t* rows, ConstMatrix g) {
    update_rows(cpu_exec(), SgdRule{0.1f}, state, NoState{}, rows, g, parameter);
  };
  CHECK_NOTHROW(update(NoState{}, ids, gradient));
  CHECK_THROWS_AS(update(NoState{}, nullptr, gradient), InvalidArgument);
  CHECK_THROWS_AS(update(NoState{}, ids, contiguous<const float>(values.data(), 3, 4)),
                  InvalidArgument);
  CHECK_THROWS_AS(update(DenseState{contiguous(values.data(), 3, 5), {}}, ids, gradient),
                  InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::kernels
