#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "sketchgrad/optim/adagrad.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/optim/momentum.h"
#include "sketchgrad/optim/rmsprop.h"
#include "sketchgrad/tests/optim/reference.h"

// Test support for memories: steps of a table, by row-sparse and by dense gradients, and rules in
// double precision.
namespace sketchgrad::test {

struct Case {
  int64_t rows;
  int64_t dim;
  int32_t depth;
  int64_t width;
};

inline constexpr int64_t kSteps = 5;

struct Step {
  bool dense;
  std::vector<int64_t> items;
  Values gradient;
};

// Steps with K = 0, 1, some and all rows, by row-sparse and by dense gradients.
inline std::vector<Step> random_steps(const Case& size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<Step> steps;
  for (int64_t t = 0; t < kSteps; ++t) {
    const std::vector<int64_t> counts{size.rows, 1, size.rows / 2, 0, size.rows};
    std::vector<int64_t> items(static_cast<size_t>(size.rows));
    std::iota(items.begin(), items.end(), 0);
    std::shuffle(items.begin(), items.end(), random);
    items.resize(static_cast<size_t>(counts[static_cast<size_t>(t)]));
    std::sort(items.begin(), items.end());
    Step step{t == kSteps - 1, items, {}};
    for (size_t e = 0; e < items.size(); ++e) {
      std::vector<double>& row = step.gradient.emplace_back();
      // Rows of very different scale, as frequent and rare words have.
      const double scale = std::pow(10.0, -static_cast<double>(items[e] % 4));
      for (int64_t c = 0; c < size.dim; ++c) {
        row.push_back(static_cast<double>(static_cast<float>(scale * normal(random))));
      }
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

inline void give_gradient(Parameter& parameter, const Step& step, const Case& size) {
  std::vector<float> values;
  for (const auto& row : step.gradient) {
    for (const double g : row) values.push_back(static_cast<float>(g));
  }
  const int64_t count = static_cast<int64_t>(step.items.size());
  const Tensor tensor = Tensor::from(values, {count, size.dim}, {Category::gradient, "gradient"});
  if (step.dense) {
    parameter.gradient.add(tensor);
    return;
  }
  const std::vector<int32_t> ids(step.items.begin(), step.items.end());
  parameter.gradient.add(
      RowSparse{size.rows, Tensor::from(ids, {count}, {Category::gradient, "ids"}), tensor});
}

inline void give_and_step(Optimizer& optimizer, Parameter& parameter, const Step& step,
                          const Case& size) {
  give_gradient(parameter, step, size);
  optimizer.step();
  optimizer.clear_gradients();
}

// What a rule does with one element, in double: (w, g, m, v, t) -> w.
using ReferenceRule = double (*)(double, double, double, double, int64_t);

struct Pair {
  const char* name;
  double decay1, scale1;  // of the first moment; scale 0: the rule has none
  double decay2, scale2;  // of the second
  ReferenceRule rule;
  std::function<Optimizer(uint64_t)> optimizer;
};

inline const std::vector<Pair>& pairs() {
  static const std::vector<Pair> all{
      {"momentum (Algorithm 2)", 0.9, 1.0, 0.0, 0.0,
       [](double w, double, double m, double, int64_t) { return w - 0.1 * m; },
       [](uint64_t seed) { return Optimizer(Momentum{.learning_rate = 0.1f}, seed); }},
      {"adagrad (Algorithm 3)", 0.0, 0.0, 1.0, 1.0,
       [](double w, double g, double, double v, int64_t) {
         return w - 0.1 * g / (std::sqrt(v) + 1e-3);
       },
       [](uint64_t seed) {
         return Optimizer(Adagrad{.learning_rate = 0.1f, .epsilon = 1e-3f}, seed);
       }},
      {"rmsprop", 0.0, 0.0, 0.9, 0.1,
       [](double w, double g, double, double v, int64_t) {
         return w - 0.01 * g / (std::sqrt(v) + 1e-3);
       },
       [](uint64_t seed) {
         return Optimizer(Rmsprop{.learning_rate = 0.01f, .decay = 0.9f, .epsilon = 1e-3f}, seed);
       }},
      {"adam (Algorithm 4)", 0.9, 0.1, 0.99, 0.01,
       [](double w, double, double m, double v, int64_t t) {
         const double m_hat = m / (1.0 - std::pow(0.9, static_cast<double>(t)));
         const double v_hat = v / (1.0 - std::pow(0.99, static_cast<double>(t)));
         return w - 0.01 * m_hat / (std::sqrt(v_hat) + 1e-3);
       },
       [](uint64_t seed) {
         return Optimizer(Adam{.learning_rate = 0.01f, .beta2 = 0.99f, .epsilon = 1e-3f}, seed);
       }},
  };
  return all;
}

}  // namespace sketchgrad::test
