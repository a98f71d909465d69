#include "sketchgrad/layers/embedding.h"

#include <doctest/doctest.h>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {

TEST_CASE("embedding: output and gradient as PyTorch") {
  for (const nlohmann::json& golden : test::golden_cases("embedding")) {
    CAPTURE(golden.at("name").get<std::string>());
    const Tensor table = test::golden_tensor(golden.at("weight"));
    Rng rng(1);
    Embedding layer("embedding",
                    {.rows = table.size(0),
                     .dim = table.size(1),
                     .padding_id = golden.at("padding_idx").get<int32_t>()},
                    rng, test::kTestDevice);
    layer.weight().value.copy_from(table);
    Tape tape;
    const Variable y = layer.forward(tape, test::golden_ids(golden.at("ids")));
    CHECK(y.value.shape() == golden.at("output").at("shape").get<Shape>());
    CHECK(y.value.to_vector<float>() == test::golden_values(golden.at("output")));
    tape.backward(test::weighted_sum(tape, y, test::golden_tensor(golden.at("r"))));
    CHECK(layer.weight().gradient.kind() == Gradient::Kind::row_sparse);
    CHECK(test::worst_difference(test::full_gradient(layer.weight()),
                                 test::golden_values(golden.at("grad_weight"))) <
          test::tolerance(1e-6));
  }
}

TEST_CASE("embedding: gradients, with ids of any shape") {
  for (const int32_t padding_id : {-1, 0, 6}) {
    for (const Shape& shape : {Shape{11}, Shape{3, 4}, Shape{2, 3, 2}, Shape{1}}) {
      Rng rng(2);
      Embedding layer("embedding", {.rows = 7, .dim = 5, .padding_id = padding_id}, rng,
                      test::kTestDevice);
      const Tensor ids = test::random_ids(shape, 7, 3);
      const Tensor weights = test::random_normal({ids.numel(), 5}, 4);
      const GradCheckResult result = grad_check(
          [&](Tape& tape) { return test::weighted_sum(tape, layer.forward(tape, ids), weights); },
          {&layer.weight()});
      CHECK_MESSAGE(result.passed, result.where);
    }
  }
}

TEST_CASE("embedding: the padding row is zero and gets no gradient") {
  Rng rng(5);
  Embedding layer("embedding", {.rows = 4, .dim = 3, .padding_id = 2}, rng, test::kTestDevice);
  CHECK(layer.weight().value.rows(2, 1).to_vector<float>() == std::vector<float>(3, 0.0f));
  // Even where the row was changed, padding reads as zeros.
  layer.weight().value.fill(1.0f);
  Tape tape;
  const Tensor ids = Tensor::from<int32_t>({2, 0, 2, 1, 0}, {5}, test::kTestData);
  const Variable y = layer.forward(tape, ids);
  CHECK(y.value.rows(0, 1).to_vector<float>() == std::vector<float>(3, 0.0f));
  CHECK(y.value.rows(1, 1).to_vector<float>() == std::vector<float>(3, 1.0f));
  tape.backward(sum(tape, y));
  const RowSparse& gradient = layer.weight().gradient.rows();
  std::vector<int32_t> rows = {0, 1};
  std::vector<float> values = {2, 2, 2, 1, 1, 1};
  if (test::kTestDevice == kCuda) {
    // As many entries as the table has rows, as there are more ids.
    rows.resize(4, -1);
    values.resize(12, 0.0f);
  }
  CHECK(gradient.ids.to_vector<int32_t>() == rows);
  CHECK(gradient.values.to_vector<float>() == values);
}

TEST_CASE("embedding: a batch of nothing but padding, and one without ids") {
  Rng rng(6);
  Embedding layer("embedding", {.rows = 4, .dim = 3, .padding_id = 0}, rng, test::kTestDevice);
  for (const Tensor& ids : {Tensor::from<int32_t>({0, 0}, {2}, test::kTestData),
                            Tensor::from<int32_t>({}, {0}, test::kTestData)}) {
    Tape tape;
    tape.backward(sum(tape, layer.forward(tape, ids)));
    CHECK(layer.weight().gradient.kind() == Gradient::Kind::row_sparse);
    // On CUDA the batch alone decides how many entries there are; these are of no row.
    const int64_t entries = test::kTestDevice == kCuda ? ids.numel() : 0;
    const RowSparse& gradient = layer.weight().gradient.rows();
    CHECK(gradient.ids.to_vector<int32_t>() ==
          std::vector<int32_t>(static_cast<size_t>(entries), -1));
    CHECK(gradient.values.to_vector<float>() ==
          std::vector<float>(static_cast<size_t>(entries * 3), 0.0f));
    layer.weight().gradient.clear();
  }
}

TEST_CASE("embedding: ids may lie on the device of the table, too") {
  const Tensor ids = test::random_ids({3, 5}, 7, 3);
  const Tensor weights = test::random_normal({15, 2}, 4);
  for (const int32_t padding_id : {-1, 0}) {
    Rng rng(2);
    Embedding layer("embedding", {.rows = 7, .dim = 2, .padding_id = padding_id}, rng,
                    test::kTestDevice);
    std::vector<std::vector<float>> outputs, gradients;
    for (const Tensor& placed : {ids, ids.to(test::kTestDevice, test::kTestData)}) {
      Tape tape;
      const Variable y = layer.forward(tape, placed);
      tape.backward(test::weighted_sum(tape, y, weights));
      outputs.push_back(y.value.to_vector<float>());
      gradients.push_back(test::full_gradient(layer.weight()));
      layer.weight().gradient.clear();
    }
    CHECK(outputs[0] == outputs[1]);
    CHECK(gradients[0] == gradients[1]);
  }
}

TEST_CASE("embedding: its gradient is its own, and small") {
  Rng rng(7);
  Embedding layer("embedding", {.rows = 100000, .dim = 16}, rng, test::kTestDevice);
  const Tensor ids = test::random_ids({30}, 100000, 8);
  const int64_t gradient_before = test::live_bytes(Category::gradient);
  allocator(test::kTestDevice).reset_peak();
  {
    Tape tape;
    tape.backward(sum(tape, layer.forward(tape, ids)));
  }
  const std::vector<int32_t> used = ids.to_vector<int32_t>();
  // A loader may refill its batch before the optimizer's step.
  std::fill_n(ids.data<int32_t>(), ids.numel(), 0);
  const std::vector<int32_t> rows = layer.weight().gradient.rows().ids.to_vector<int32_t>();
  for (const int32_t id : used) CHECK(std::find(rows.begin(), rows.end(), id) != rows.end());

  CHECK(test::live_bytes(Category::activation) == 0);
  const MemoryFigures peak = allocator(test::kTestDevice).peak();
  CHECK(peak[Category::gradient] - gradient_before < 4 * 30 * 16 * 4);
  CHECK(peak[Category::workspace] < 16384);
}

TEST_CASE("embedding: its memory carries its scope") {
  Rng rng(8);
  Embedding layer("words", {.rows = 10, .dim = 3}, rng, test::kTestDevice);
  Tape tape;
  const Variable y = layer.forward(tape, test::random_ids({4}, 10, 1));
  bool found = false;
  for (const LiveBlock& block : allocator(test::kTestDevice).live_blocks()) {
    found |= block.name == "words.weight.rows" && block.scope == "words";
  }
  CHECK(found);
}

TEST_CASE("embedding: what it refuses") {
  Rng rng(9);
  Embedding layer("encoder", {.rows = 500, .dim = 2}, rng, test::kTestDevice);
  Tape tape;
  const auto look_up = [&](std::vector<int32_t> ids) {
    return test::refusal([&] {
      const int64_t count = static_cast<int64_t>(ids.size());
      layer.forward(tape, Tensor::from(ids, {count}, test::kTestData));
    });
  };
  CHECK(look_up({0, 499}).empty());
  CHECK(look_up({0, 1, 500}) ==
        "[embedding] id 500 at position 2 is outside the 500 rows of encoder.weight");
  CHECK(test::contains(look_up({-1}), "id -1 at position 0"));
  CHECK(test::contains(test::refusal([&] { layer.forward(tape, test::random_normal({3}, 1)); }),
                       "must be int32"));

  const auto make = [&](EmbeddingOptions options) {
    return test::refusal([&] { Embedding("bad", options, rng, test::kTestDevice); });
  };
  CHECK(test::contains(make({.rows = 0, .dim = 3}), "0 rows"));
  CHECK(test::contains(make({.rows = 3, .dim = -1}), "-1 columns"));
  CHECK(test::contains(make({.rows = 3, .dim = 2, .padding_id = 3}), "padding id 3"));
  CHECK(test::contains(make({.rows = 3, .dim = 2, .padding_id = -2}), "padding id -2"));
}

}  // namespace sketchgrad
