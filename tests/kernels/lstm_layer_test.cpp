#include "sketchgrad/kernels/lstm_layer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/lstm_layer_impl.h"
#include "sketchgrad/tests/support/test_exec.h"

namespace sketchgrad::kernels {
namespace {

// A library's weight space, with its linear layers in any order and gaps between them.
struct FakeSpace {
  FakeSpace(const LstmLayerShape& shape, const std::vector<int>& order, int64_t gap)
      : weight(9), bias(9) {
    int64_t size = 0;
    for (const int layer : order) {
      const int64_t columns = layer < 4 ? shape.input : shape.output();
      weight[static_cast<size_t>(layer)] = size;
      size +=
          (layer == 8 ? shape.projection : shape.hidden) * (layer == 8 ? shape.hidden : columns) +
          gap;
    }
    for (const int layer : order) {
      bias[static_cast<size_t>(layer)] = size;
      size += shape.hidden + gap;
    }
    cells.resize(static_cast<size_t>(size), -1.0f);
  }
  auto place() {
    return [this](int layer) {
      const auto at = static_cast<size_t>(layer);
      return std::pair(cells.data() + weight[at], cells.data() + bias[at]);
    };
  }
  std::vector<int64_t> weight, bias;
  std::vector<float> cells;
};

struct Weights {
  explicit Weights(const LstmLayerShape& shape)
      : weight_ih(static_cast<size_t>(4 * shape.hidden * shape.input)),
        weight_hh(static_cast<size_t>(4 * shape.hidden * shape.output())),
        bias_ih(static_cast<size_t>(4 * shape.hidden)),
        bias_hh(bias_ih.size()),
        weight_hr(static_cast<size_t>(shape.projection * shape.hidden)) {
    float next = 0.0f;
    for (auto* array : {&weight_ih, &weight_hh, &bias_ih, &bias_hh, &weight_hr}) {
      for (float& value : *array) value = next++;
    }
  }
  LstmLayerArrays<float> arrays() {
    return {weight_ih.data(), weight_hh.data(), bias_ih.data(), bias_hh.data(), weight_hr.data()};
  }
  std::vector<float> weight_ih, weight_hh, bias_ih, bias_hh, weight_hr;
};

TEST_CASE("lstm layer: every weight finds its place in the library's order, whatever that is") {
  for (const int64_t projection : {0, 2}) {
    const LstmLayerShape shape{2, 3, 5, 7, projection};
    std::vector<int> usual{0, 1, 2, 3, 4, 5, 6, 7};
    if (projection > 0) usual.push_back(8);
    const std::vector<int> reversed(usual.rbegin(), usual.rend());
    for (const auto& order : {usual, reversed}) {
      for (const int64_t gap : {0, 3}) {
        Weights weights(shape);
        FakeSpace space(shape, order, gap);
        for (const ArrayPart& part : lstm_layer_parts(shape, weights.arrays(), space.place())) {
          std::copy_n(part.ours, part.count, part.theirs);
        }
        // Gate 2 of the recurrent weights, say, is the library's layer 6.
        for (int layer = 0; layer < 8; ++layer) {
          const auto& from = layer < 4 ? weights.weight_ih : weights.weight_hh;
          const auto& from_bias = layer < 4 ? weights.bias_ih : weights.bias_hh;
          const int64_t columns = layer < 4 ? shape.input : shape.output();
          const auto [weight, bias] = space.place()(layer);
          for (int64_t i = 0; i < shape.hidden * columns; ++i) {
            REQUIRE(weight[i] == from[static_cast<size_t>(layer % 4 * shape.hidden * columns + i)]);
          }
          for (int64_t i = 0; i < shape.hidden; ++i) {
            REQUIRE(bias[i] == from_bias[static_cast<size_t>(layer % 4 * shape.hidden + i)]);
          }
        }
        for (int64_t i = 0; i < projection * shape.hidden; ++i) {
          REQUIRE(space.place()(8).first[i] == weights.weight_hr[static_cast<size_t>(i)]);
        }
      }
    }
    // In the usual order without gaps, each of our arrays is one copy at most: they may be
    // neighbours.
    Weights weights(shape);
    FakeSpace space(shape, usual, 0);
    CHECK(lstm_layer_parts(shape, weights.arrays(), space.place()).size() <=
          (projection > 0 ? 5 : 4));
  }
}

TEST_CASE("lstm layer: there is none on the CPU") {
  CHECK_THROWS_AS(lstm_layer_reserve_bytes(test::cpu_exec(), {2, 3, 5, 7, 0}), NotCompiled);
}

TEST_CASE("lstm layer: what does not fit is refused") {
  const Exec exec{DeviceKind::cuda};
  CHECK_THROWS_AS(lstm_layer_reserve_bytes(exec, {0, 3, 5, 7, 0}), InvalidArgument);
  CHECK_THROWS_AS(lstm_layer_reserve_bytes(exec, {2, int64_t{1} << 31, 5, 7, 0}), InvalidArgument);
  CHECK_THROWS_AS(lstm_layer_reserve_bytes(exec, {2, 3, 5, 7, 7}), InvalidArgument);
  CHECK_THROWS_AS(lstm_layer_forward(exec, {2, 3, 5, 7, 0}, {}, nullptr, nullptr, nullptr, nullptr,
                                     nullptr, nullptr, nullptr),
                  InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::kernels
