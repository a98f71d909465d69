#include "sketchgrad/layers/multi_label_output.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/layers/full_softmax.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad::test {
namespace {

constexpr MultiLabelLoss kLosses[] = {MultiLabelLoss::softmax, MultiLabelLoss::sigmoid};

// Token t has t % 3 labels.
SparseRows labels_of(int64_t tokens, int64_t classes) {
  std::vector<int32_t> begin{0}, ids;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < std::min(t % 3, classes); ++i) {
      ids.push_back(static_cast<int32_t>((7 * t + i) % classes));
    }
    begin.push_back(static_cast<int32_t>(ids.size()));
  }
  const auto entries = static_cast<int64_t>(ids.size());
  return {
      Tensor::from(begin, {tokens + 1}, kTestData), Tensor::from(ids, {entries}, kTestData), {}};
}

std::vector<double> logits_of(MultiLabelOutput& layer, const Tensor& x) {
  const std::vector<float> in = x.to_vector<float>();
  const std::vector<float> weight = layer.weight().value.to_vector<float>();
  const std::vector<float> bias = layer.bias()->value.to_vector<float>();
  const auto input = static_cast<size_t>(x.size(-1));
  std::vector<double> z;
  for (size_t t = 0; t < in.size() / input; ++t) {
    for (size_t c = 0; c < bias.size(); ++c) {
      double sum = bias[c];
      for (size_t i = 0; i < input; ++i) {
        sum += double{in[t * input + i]} * double{weight[c * input + i]};
      }
      z.push_back(sum);
    }
  }
  return z;
}

struct Expected {
  double loss = 0;
  std::vector<float> probabilities;
};

Expected expected_of(MultiLabelOutput& layer, const Tensor& x, const SparseRows& labels,
                     MultiLabelLoss loss) {
  const std::vector<double> z = logits_of(layer, x);
  const auto classes = static_cast<size_t>(layer.classes());
  const std::vector<int32_t> begin = labels.begin.to_vector<int32_t>();
  const std::vector<int32_t> ids = labels.columns.to_vector<int32_t>();
  Expected result;
  double counted = 0;
  for (size_t t = 0; t + 1 < begin.size(); ++t) {
    const double* const row = z.data() + t * classes;
    double sum_exp = 0, softplus = 0, of_labels = 0;
    for (size_t c = 0; c < classes; ++c) {
      sum_exp += std::exp(row[c]);
      softplus += std::log1p(std::exp(row[c]));
    }
    for (size_t c = 0; c < classes; ++c) {
      result.probabilities.push_back(static_cast<float>(loss == MultiLabelLoss::softmax
                                                            ? std::exp(row[c]) / sum_exp
                                                            : 1 / (1 + std::exp(-row[c]))));
    }
    for (int32_t i = begin[t]; i < begin[t + 1]; ++i) of_labels += row[ids[static_cast<size_t>(i)]];
    const double count = begin[t + 1] - begin[t];
    if (loss == MultiLabelLoss::sigmoid) {
      result.loss += softplus - of_labels;
      counted += 1;
    } else if (count > 0) {
      result.loss += std::log(sum_exp) - of_labels / count;
      counted += 1;
    }
  }
  if (counted > 0) result.loss /= counted;
  return result;
}

TEST_CASE("multi-label output: loss and probabilities in double precision") {
  for (const MultiLabelLoss loss : kLosses) {
    for (const int64_t classes : {1, 33}) {
      for (const int64_t tokens : {0, 1, 8}) {
        // All tokens in a chunk, and one.
        for (const int64_t chunk_bytes : {int64_t{1} << 20, int64_t{4}}) {
          CAPTURE(static_cast<int>(loss));
          CAPTURE(classes);
          CAPTURE(tokens);
          CAPTURE(chunk_bytes);
          Rng rng(3);
          MultiLabelOutput layer(
              "out", {.input = 5, .classes = classes, .loss = loss, .chunk_bytes = chunk_bytes},
              rng, kTestDevice);
          for (Parameter* parameter : layer.parameters()) fill_normal(parameter->value, 5);
          const Tensor x = random_normal({tokens, 5}, 4);
          const SparseRows labels = labels_of(tokens, classes);
          const Expected expected = expected_of(layer, x, labels, loss);
          Tape tape;
          CHECK(layer.loss(tape, Tape::constant(x), labels).value.item() ==
                doctest::Approx(expected.loss).epsilon(tolerance(1e-5)));
          Tape forward(/*recording=*/false);
          CHECK(layer.loss(forward, Tape::constant(x), labels).value.item() ==
                doctest::Approx(expected.loss).epsilon(tolerance(1e-5)));
          CHECK(worst_difference(layer.probabilities(x).to_vector<float>(),
                                 expected.probabilities) < tolerance(1e-6));
        }
      }
    }
  }
}

TEST_CASE("multi-label output: gradients") {
  for (const MultiLabelLoss loss : kLosses) {
    for (const int64_t classes : {1, 7}) {
      for (const int64_t tokens : {1, 5}) {
        for (const int64_t chunk_bytes : {int64_t{1} << 20, int64_t{4}}) {
          CAPTURE(static_cast<int>(loss));
          CAPTURE(classes);
          CAPTURE(tokens);
          Rng rng(3);
          MultiLabelOutput layer(
              "out", {.input = 3, .classes = classes, .loss = loss, .chunk_bytes = chunk_bytes},
              rng, kTestDevice);
          for (Parameter* parameter : layer.parameters()) fill_normal(parameter->value, 5);
          Parameter x("x", {tokens, 3}, kTestDevice);
          fill_normal(x.value, 4);
          const SparseRows labels = labels_of(tokens, classes);
          std::vector<Parameter*> parameters = layer.parameters();
          parameters.push_back(&x);
          const GradCheckResult result = grad_check(
              [&](Tape& tape) { return scale(tape, layer.loss(tape, tape.leaf(x), labels), 1.5f); },
              parameters);
          CHECK_MESSAGE(result.passed, result.where);
        }
      }
    }
  }
}

TEST_CASE("multi-label output: one label a token is the full softmax") {
  constexpr int64_t kTokens = 6, kClasses = 9;
  const Tensor ids = random_ids(Shape{kTokens}, kClasses, 8);
  std::vector<int32_t> begin;
  for (int32_t t = 0; t <= kTokens; ++t) begin.push_back(t);
  const SparseRows labels{Tensor::from(begin, {kTokens + 1}, kTestData), ids, {}};
  Rng rng(3), same(3);
  MultiLabelOutput layer("out", {.input = 4, .classes = kClasses}, rng, kTestDevice);
  FullSoftmax full("out", {.input = 4, .classes = kClasses}, same, nullptr, kTestDevice);
  const Tensor x = random_normal({kTokens, 4}, 4);
  const auto run = [&](Module& module, const auto& loss) {
    Tape tape;
    tape.backward(loss(tape));
    std::vector<float> all;
    for (Parameter* parameter : module.parameters()) {
      const std::vector<float> gradient = full_gradient(*parameter);
      all.insert(all.end(), gradient.begin(), gradient.end());
    }
    return all;
  };
  const std::vector<float> ours =
      run(layer, [&](Tape& tape) { return layer.loss(tape, Tape::constant(x), labels); });
  const std::vector<float> theirs =
      run(full, [&](Tape& tape) { return full.loss(tape, Tape::constant(x), ids); });
  CHECK(worst_difference(ours, theirs) < tolerance(1e-6));
}

TEST_CASE("multi-label output: tokens x classes never exists in full") {
  constexpr int64_t kTokens = 512, kClasses = 4096, kInput = 8, kChunk = 64 * kClasses * 4;
  Rng rng(3);
  MultiLabelOutput layer("out", {.input = kInput, .classes = kClasses, .chunk_bytes = kChunk}, rng,
                         kTestDevice);
  const Tensor x = random_normal({kTokens, kInput}, 4);
  const SparseRows labels = labels_of(kTokens, kClasses);
  allocator(kTestDevice).reset_peak();
  const int64_t before = live_bytes(Category::workspace);
  Tape tape;
  tape.backward(layer.loss(tape, Tape::constant(x), labels));
  // A chunk, four numbers a token, and what products take for themselves.
  CHECK(allocator(kTestDevice).peak()[Category::workspace] - before < 2 * kChunk);
  CHECK(live_bytes(Category::workspace) == before);
}

TEST_CASE("multi-label output: what does not fit is named") {
  Rng rng(3);
  MultiLabelOutput layer("out", {.input = 3, .classes = 4}, rng, kTestDevice);
  const Tensor x = random_normal({2, 3}, 4);
  const auto refused = [&](const SparseRows& labels) {
    Tape tape;
    return refusal([&] { layer.loss(tape, Tape::constant(x), labels); });
  };
  const auto sparse = [&](const std::vector<int32_t>& begin, const std::vector<int32_t>& ids) {
    return SparseRows{Tensor::from(begin, {static_cast<int64_t>(begin.size())}, kTestData),
                      Tensor::from(ids, {static_cast<int64_t>(ids.size())}, kTestData),
                      {}};
  };
  CHECK(refused(sparse({0, 1, 1}, {4})) ==
        "[out] column 4 at entry 0 is outside the 4 of a sparse matrix");
  CHECK(refused(sparse({0, 1}, {3})) == "[out] labels of 1 tokens for 2");
  SparseRows with_values = sparse({0, 1, 1}, {3});
  with_values.values = Tensor::full({1}, 1.0f, kTestData);
  CHECK(refused(with_values) == "[out] labels must have no values");
  CHECK(contains(refusal([&] { MultiLabelOutput("o", {.input = 3, .classes = 0}, rng); }),
                 "0 classes"));
}

}  // namespace
}  // namespace sketchgrad::test
