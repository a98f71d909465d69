#include "sketchgrad/kernels/multi_label.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/multi_label_impl.h"
#include "sketchgrad/kernels/multi_label_lanes.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/support/emulated_warp.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;
using namespace sketchgrad::test;

namespace {

struct Size {
  int64_t tokens, classes;
};
constexpr Size kSizes[] = {{0, 5}, {3, 0}, {1, 1}, {5, 7}, {7, 33}, {3, 5000}, {300, 40}};

// Token t has t % 3 labels, all different, with weights that add up to 1.
struct Labels {
  Labels(int64_t tokens, int64_t classes) {
    begin.push_back(0);
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t count = std::min(t % 3, classes);
      for (int64_t i = 0; i < count; ++i) {
        ids.push_back(static_cast<int32_t>((t + i * (classes / 2 + 1)) % classes));
        weights.push_back(1.0f / static_cast<float>(count));
      }
      begin.push_back(static_cast<int32_t>(ids.size()));
    }
  }
  CsrMatrix matrix(bool weighted) const {
    return {static_cast<int64_t>(begin.size()) - 1, begin.data(), ids.data(),
            weighted ? weights.data() : nullptr};
  }
  std::vector<int32_t> begin, ids;
  std::vector<float> weights;
};

struct Sigmoid {
  std::vector<float> gradient, sums;
};

// The logits stand in a wider matrix.
template <class Run>
Sigmoid sigmoid(Size size, const Run& run) {
  const int64_t stride = size.classes + 3;
  Sigmoid out{random_floats(size.tokens * stride, 1, -12.0f, 12.0f),
              std::vector<float>(static_cast<size_t>(size.tokens), 9.0f)};
  run(Matrix{out.gradient.data(), size.tokens, size.classes, stride}, out.sums.data());
  return out;
}

}  // namespace

TEST_CASE("multi-label: logits and gradients of labels") {
  for (const Size size : kSizes) {
    for (const bool weighted : {false, true}) {
      CAPTURE(size.tokens);
      CAPTURE(size.classes);
      CAPTURE(weighted);
      const Labels labels(size.tokens, size.classes);
      const std::vector<float> logits = random_floats(size.tokens * size.classes, 1);
      const std::vector<float> bias = random_floats(size.classes, 2);
      std::vector<float> sums(static_cast<size_t>(size.tokens), 9.0f), gradient = logits;
      const Exec exec = cpu_exec();
      const ConstMatrix table = contiguous(logits.data(), size.tokens, size.classes);
      take_label_logits(exec, table, bias.data(), labels.matrix(weighted), sums.data());
      subtract_labels(exec, labels.matrix(weighted), 0.25f,
                      contiguous(gradient.data(), size.tokens, size.classes));
      std::vector<double> expected(logits.begin(), logits.end());
      for (int64_t t = 0; t < size.tokens; ++t) {
        double sum = 0;
        for (auto i = static_cast<size_t>(labels.begin[static_cast<size_t>(t)]);
             i < static_cast<size_t>(labels.begin[static_cast<size_t>(t) + 1]); ++i) {
          const double weight = weighted ? double{labels.weights[i]} : 1.0;
          const auto label = static_cast<size_t>(labels.ids[i]);
          sum += weight * (double{table(t, labels.ids[i])} + double{bias[label]});
          expected[static_cast<size_t>(t * size.classes) + label] -= 0.25 * weight;
        }
        CHECK(sums[static_cast<size_t>(t)] == doctest::Approx(sum).epsilon(1e-5));
      }
      CHECK(largest_error(gradient, [&](size_t i) { return expected[i]; }) < 1e-6);
    }
  }
}

TEST_CASE("multi-label: sigmoids in double precision, on the CPU and by lanes") {
  for (const Size size : kSizes) {
    for (const bool with_bias : {false, true}) {
      CAPTURE(size.tokens);
      CAPTURE(size.classes);
      CAPTURE(with_bias);
      const std::vector<float> all_bias = random_floats(size.classes, 2);
      const float* const bias = with_bias ? all_bias.data() : nullptr;
      const Sigmoid before = sigmoid(size, [](Matrix, float*) {});
      const Sigmoid cpu = sigmoid(size, [&](Matrix logits, float* sums) {
        sigmoid_cross_entropy(cpu_exec(), logits, bias, 0.25f, sums);
      });
      const Sigmoid serial = sigmoid(size, [&](Matrix logits, float* sums) {
        impl::sigmoid_cross_entropy(SerialPolicy{}, logits, bias, 0.25f, sums);
      });
      const Sigmoid lanes = sigmoid(size, [&](Matrix logits, float* sums) {
        sigmoid_cross_entropy_by_lanes(EmulatedPolicy{{}, 7}, cpu_exec(), logits, bias, 0.25f,
                                       sums);
      });
      const int64_t stride = size.classes + 3;
      std::vector<double> sums(static_cast<size_t>(size.tokens));
      std::vector<double> gradient(before.gradient.begin(), before.gradient.end());
      for (int64_t t = 0; t < size.tokens; ++t) {
        for (int64_t c = 0; c < size.classes; ++c) {
          const auto i = static_cast<size_t>(t * stride + c);
          const double z = gradient[i] + (with_bias ? all_bias[static_cast<size_t>(c)] : 0.0f);
          sums[static_cast<size_t>(t)] += std::log1p(std::exp(-std::abs(z))) + std::max(z, 0.0);
          gradient[i] = 0.25 / (1.0 + std::exp(-z));
        }
      }
      for (const Sigmoid* got : {&cpu, &lanes}) {
        CHECK(largest_error(got->gradient, [&](size_t i) { return gradient[i]; }) < 1e-6);
        CHECK(largest_error(got->sums, [&](size_t t) { return sums[t]; }) < 1e-5);
      }
      CHECK(same_bits(cpu.gradient, serial.gradient));
      CHECK(same_bits(cpu.sums, serial.sums));
      for (const size_t threads : {1, 3}) {
        const Sigmoid again = with_threads(threads, [&] {
          return sigmoid(size, [&](Matrix logits, float* out) {
            sigmoid_cross_entropy(cpu_exec(), logits, bias, 0.25f, out);
          });
        });
        CHECK(same_bits(again.gradient, cpu.gradient));
        CHECK(same_bits(again.sums, cpu.sums));
      }
    }
  }
}

TEST_CASE("multi-label: what is not a number stays in its row") {
  std::vector<float> logits{1.0f, std::numeric_limits<float>::quiet_NaN(), 0.5f, -2.0f};
  std::vector<float> sums(2);
  sigmoid_cross_entropy(cpu_exec(), contiguous(logits.data(), 2, 2), nullptr, 1.0f, sums.data());
  CHECK(std::isnan(sums[0]));
  CHECK(std::isfinite(sums[1]));
}

TEST_CASE("multi-label: what cannot be right is refused") {
  float value[8] = {};
  int32_t id[8] = {};
  const Exec exec = cpu_exec();
  CHECK_THROWS_WITH_AS(
      take_label_logits(exec, {value, 2, 2, 2}, nullptr, CsrMatrix{3, id, id}, value),
      "[take_label_logits] labels of 3 tokens for 2", InvalidArgument);
  CHECK_THROWS_WITH_AS(subtract_labels(exec, CsrMatrix{2, nullptr, id}, 1.0f, {value, 2, 2, 2}),
                       "[subtract_labels] labels.begin is null, it must hold 2 elements",
                       InvalidArgument);
  CHECK_THROWS_WITH_AS(sigmoid_cross_entropy(exec, {value, 2, 2, 2}, nullptr, 1.0f, nullptr),
                       "[sigmoid_cross_entropy] sums is null, it must hold 2 elements",
                       InvalidArgument);
}
