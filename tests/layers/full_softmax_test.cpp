#include "sketchgrad/layers/full_softmax.h"

#include <doctest/doctest.h>

#include <numeric>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/layers/softmax_chunks.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {
namespace {

// A GPU takes some launches a chunk, and an emulated one is slow.
constexpr bool kFull = test::kTestDevice == kCpu;
constexpr int64_t kTokens = kFull ? 150 : 70;
constexpr int64_t kInput = 13;
constexpr int64_t kClasses = kFull ? 97 : 41;
// All tokens at once; whole rows of several token chunks; the vocabulary in chunks, too; one logit.
const std::vector<int64_t> kChunkBytes = {int64_t{24} << 20, 64 * kClasses * 4 + 3, 2000, 4};

struct Results {
  float loss = 0;
  std::vector<float> grad_x, grad_weight, grad_bias;
};

Results results_of(FullSoftmax& layer, Parameter& x, const Tensor& targets, float seed = 1.0f) {
  Tape tape;
  const Variable loss = layer.loss(tape, tape.leaf(x), targets);
  const float value = loss.value.item();
  tape.backward(loss, seed);
  Results results{value, test::full_gradient(x), test::full_gradient(layer.weight()), {}};
  if (layer.bias() != nullptr) {
    results.grad_bias = test::full_gradient(*layer.bias());
    layer.bias()->gradient.clear();
  }
  x.gradient.clear();
  layer.weight().gradient.clear();
  return results;
}

void check_equal(const Results& a, const Results& b, double tolerance) {
  CHECK(a.loss == doctest::Approx(b.loss).epsilon(tolerance));
  CHECK(test::worst_difference(a.grad_x, b.grad_x) < tolerance);
  CHECK(test::worst_difference(a.grad_weight, b.grad_weight) < tolerance);
  CHECK(test::worst_difference(a.grad_bias, b.grad_bias) < tolerance);
}

void fill_bias(FullSoftmax& layer) {
  if (layer.bias() == nullptr) return;
  test::fill_normal(layer.bias()->value, 99);
}

// Random targets, every seventh of them ignored.
Tensor some_targets(int64_t tokens, int64_t classes) {
  const Tensor targets = test::random_ids({tokens}, static_cast<int32_t>(classes), 21);
  for (int64_t t = 3; t < tokens; t += 7) targets.data<int32_t>()[t] = kernels::kIgnoredTarget;
  return targets;
}

// Log-probabilities [tokens, classes] in double.
std::vector<double> reference_log_probs(const Tensor& x, FullSoftmax& layer) {
  const Tensor x_on_cpu = x.to(kCpu, test::kTestData);
  const Tensor weight_on_cpu = layer.weight().value.to(kCpu, test::kTestData);
  const kernels::Matrix inputs = x_on_cpu.matrix(), weight = weight_on_cpu.matrix();
  const std::vector<float> bias = layer.bias()->value.to_vector<float>();
  std::vector<double> result;
  for (int64_t t = 0; t < inputs.rows; ++t) {
    std::vector<double> logits(static_cast<size_t>(weight.rows));
    for (int64_t v = 0; v < weight.rows; ++v) {
      double logit = bias[static_cast<size_t>(v)];
      for (int64_t d = 0; d < weight.cols; ++d) logit += double{inputs(t, d)} * weight(v, d);
      logits[static_cast<size_t>(v)] = logit;
    }
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit - largest);
    for (const double logit : logits) result.push_back(logit - largest - std::log(sum));
  }
  return result;
}

// What a matrix product takes beside its matrices: on a GPU cuBLAS's workspace.
int64_t workspace_of_a_product() {
  if (test::kTestDevice == kCpu) return 0;
  const Tensor one = test::random_normal({1, 1}, 1);
  Allocator& memory = allocator(test::kTestDevice);
  const int64_t before = test::live_bytes(Category::workspace);
  memory.reset_peak();
  kernels::gemm(one.exec(), kernels::Transpose::no, kernels::Transpose::no, 1.0f, one.matrix(),
                one.matrix(), 0.0f, test::random_normal({1, 1}, 1).matrix());
  return memory.peak()[Category::workspace] - before;
}

}  // namespace

TEST_CASE("full softmax: loss, gradients and log-probabilities as PyTorch") {
  for (const nlohmann::json& golden : test::golden_cases("cross_entropy")) {
    CAPTURE(golden.at("name").get<std::string>());
    const Tensor weight = test::golden_tensor(golden.at("w"));
    const Tensor targets = test::golden_ids(golden.at("targets"));
    Parameter x("x", golden.at("x").at("shape").get<Shape>(), test::kTestDevice);
    x.value.copy_from(test::golden_tensor(golden.at("x")));
    for (const int64_t chunk_bytes : {int64_t{1} << 20, int64_t{100}, int64_t{4}}) {
      CAPTURE(chunk_bytes);
      Rng rng(1);
      FullSoftmax layer(
          "softmax",
          {.input = weight.size(1), .classes = weight.size(0), .chunk_bytes = chunk_bytes}, rng,
          nullptr, test::kTestDevice);
      layer.weight().value.copy_from(weight);
      layer.bias()->value.copy_from(test::golden_tensor(golden.at("b")));

      const Tensor log_prob = layer.log_prob(x.value, targets);
      CHECK(test::worst_difference(log_prob.to_vector<float>(),
                                   test::golden_values(golden.at("target_log_probs"))) <
            test::tolerance(2e-6));
      Tape evaluation(false);
      const float loss = layer.loss(evaluation, Tape::constant(x.value), targets).value.item();
      CHECK(loss ==
            doctest::Approx(golden.at("loss").get<double>()).epsilon(test::tolerance(2e-6)));

      const Results expected{
          golden.at("loss").get<float>(), test::golden_values(golden.at("grad_x")),
          test::golden_values(golden.at("grad_w")), test::golden_values(golden.at("grad_b"))};
      check_equal(results_of(layer, x, targets), expected, test::tolerance(2e-6));
    }
  }
}

TEST_CASE("full softmax: every way of cutting gives the same results") {
  const Tensor targets = some_targets(kTokens, kClasses);
  Parameter x("x", {kTokens, kInput}, test::kTestDevice);
  Rng rng(2);
  test::fill_normal(x.value, 101);
  for (const bool bias : {true, false}) {
    Results first;
    for (const int64_t chunk_bytes : kChunkBytes) {
      CAPTURE(chunk_bytes);
      Rng same(3);
      FullSoftmax layer("softmax",
                        {.input = kInput,
                         .classes = kClasses,
                         .bias = bias,
                         .init_range = 1.0f,
                         .chunk_bytes = chunk_bytes},
                        same, nullptr, test::kTestDevice);
      fill_bias(layer);
      const Results results = results_of(layer, x, targets);
      if (chunk_bytes == kChunkBytes.front()) first = results;
      check_equal(results, first, test::tolerance(2e-6));
      check_equal(results_of(layer, x, targets), results, 1e-30);

      Tape evaluation(false);
      const float loss = layer.loss(evaluation, Tape::constant(x.value), targets).value.item();
      CHECK(loss == doctest::Approx(first.loss).epsilon(test::tolerance(1e-6)));
    }
  }
}

TEST_CASE("full softmax: gradients") {
  for (const bool bias : {true, false}) {
    for (const int64_t chunk_bytes : {4096, 40}) {
      Rng rng(4);
      FullSoftmax layer(
          "softmax",
          {.input = 5, .classes = 7, .bias = bias, .init_range = 1.0f, .chunk_bytes = chunk_bytes},
          rng, nullptr, test::kTestDevice);
      Parameter x("x", {3, 3, 5}, test::kTestDevice);
      test::fill_normal(x.value, 102);
      const Tensor targets = some_targets(9, 7);
      std::vector<Parameter*> parameters = layer.parameters();
      parameters.push_back(&x);
      const GradCheckResult result = grad_check(
          [&](Tape& tape) { return scale(tape, layer.loss(tape, tape.leaf(x), targets), 10.0f); },
          parameters);
      CHECK_MESSAGE(result.passed, result.where);
    }
  }
}

TEST_CASE("full softmax: the incoming gradient scales the stored ones") {
  Rng rng(5);
  FullSoftmax layer("softmax", {.input = 3, .classes = 5}, rng, nullptr, test::kTestDevice);
  Parameter x("x", {4, 3}, test::kTestDevice);
  test::fill_normal(x.value, 103);
  const Tensor targets = some_targets(4, 5);
  Results expected = results_of(layer, x, targets);
  for (std::vector<float>* gradient :
       {&expected.grad_x, &expected.grad_weight, &expected.grad_bias}) {
    for (float& value : *gradient) value *= 0.25f;
  }
  check_equal(results_of(layer, x, targets, 0.25f), expected, 1e-30);
}

TEST_CASE("full softmax: ignored targets are as if their tokens were not there") {
  Rng rng(6);
  FullSoftmax layer("softmax", {.input = 3, .classes = 5}, rng, nullptr, test::kTestDevice);
  Parameter x("x", {4, 3}, test::kTestDevice);
  test::fill_normal(x.value, 104);
  const Tensor targets = Tensor::from<int32_t>({2, 0, -1, -1}, {4}, test::kTestData);
  const Results results = results_of(layer, x, targets);
  Parameter head("head", {2, 3}, test::kTestDevice);
  head.value.copy_from(x.value.rows(0, 2));
  Results expected = results_of(layer, head, targets.rows(0, 2));
  expected.grad_x.resize(12, 0.0f);
  check_equal(results, expected, test::tolerance(1e-6));
  CHECK(layer.log_prob(x.value, targets).to_vector<float>()[2] == 0.0f);
}

TEST_CASE("full softmax: no targets at all, or no tokens: loss and gradients of 0") {
  Rng rng(7);
  FullSoftmax layer("softmax", {.input = 3, .classes = 5}, rng, nullptr, test::kTestDevice);
  for (const int64_t tokens : {0, 4}) {
    Parameter x("x", {tokens, 3}, test::kTestDevice);
    const Tensor targets = test::ignored_targets(tokens);
    const Results results = results_of(layer, x, targets);
    CHECK(results.loss == 0.0f);
    CHECK(results.grad_x == std::vector<float>(static_cast<size_t>(tokens * 3), 0.0f));
    CHECK(results.grad_weight == std::vector<float>(15, 0.0f));
    CHECK(results.grad_bias == std::vector<float>(5, 0.0f));
    CHECK(layer.log_prob(x.value, targets).numel() == tokens);
    CHECK(layer.top_k(x.value, 2).ids.shape() == Shape{tokens, 2});
  }
}

TEST_CASE("full softmax: targets may lie on the device of x, too") {
  Rng rng(7);
  FullSoftmax layer("softmax", {.input = 3, .classes = 5}, rng, nullptr, test::kTestDevice);
  Parameter x("x", {20, 3}, test::kTestDevice);
  test::fill_normal(x.value, 104);
  const Tensor targets = some_targets(20, 5);
  const Tensor there = targets.to(test::kTestDevice, test::kTestData);
  check_equal(results_of(layer, x, there), results_of(layer, x, targets), 1e-30);
  CHECK(layer.log_prob(x.value, there).to_vector<float>() ==
        layer.log_prob(x.value, targets).to_vector<float>());
}

TEST_CASE("full softmax: chunks respect their bound and cover everything once") {
  for (const int64_t tokens : {1, 63, 64, 65, 1500}) {
    for (const int64_t classes : {1, 50, 1777}) {
      for (const int64_t chunk_bytes : {4, 400, 30000, 1 << 20}) {
        CAPTURE(tokens);
        CAPTURE(classes);
        CAPTURE(chunk_bytes);
        const ChunkPlan plan(tokens, classes, chunk_bytes);
        CHECK(plan.largest_chunk() * 4 <= chunk_bytes);
        CHECK(plan.whole_rows() ==
              (classes == 1 || classes * 4 * std::min<int64_t>(tokens, 64) <= chunk_bytes));
        for (const auto& [ranges, total] :
             {std::pair(plan.tokens, tokens), std::pair(plan.classes, classes)}) {
          int64_t end = 0;
          for (const IndexRange range : ranges) {
            CHECK(range.begin == end);
            CHECK(range.count > 0);
            CHECK(range.count <= ranges.front().count);
            end += range.count;
          }
          CHECK(end == total);
        }
      }
    }
  }
}

TEST_CASE("full softmax: tokens x classes never exists in full") {
  constexpr int64_t kManyTokens = kFull ? 700 : 200, kManyClasses = kFull ? 6000 : 3000, kDim = 24;
  const int64_t product_bytes = workspace_of_a_product();
  Rng rng(8);
  Parameter x("x", {kManyTokens, kDim}, test::kTestDevice);
  test::fill_normal(x.value, 105);
  const Tensor targets = some_targets(kManyTokens, kManyClasses);
  // Whole rows, then split ones.
  for (const int64_t chunk_bytes : {100 * kManyClasses * 4, int64_t{200000}}) {
    CAPTURE(chunk_bytes);
    FullSoftmax layer("softmax",
                      {.input = kDim, .classes = kManyClasses, .chunk_bytes = chunk_bytes}, rng,
                      nullptr, test::kTestDevice);
    const int64_t activations_before = test::live_bytes(Category::activation);
    const int64_t gradients_before = test::live_bytes(Category::gradient);
    const auto check_peak = [&](const char* what, int64_t gradient_bound) {
      CAPTURE(what);
      const MemoryFigures peak = allocator(test::kTestDevice).peak();
      CHECK(peak[Category::workspace] - product_bytes >= chunk_bytes * 9 / 10);
      CHECK(peak[Category::workspace] - product_bytes < chunk_bytes + 100000);
      CHECK(peak[Category::activation] - activations_before < 100);
      CHECK(peak[Category::gradient] - gradients_before <= gradient_bound);
      CHECK(test::live_bytes(Category::workspace) == 0);
      allocator(test::kTestDevice).reset_peak();
    };
    allocator(test::kTestDevice).reset_peak();
    {
      Tape tape;
      tape.backward(layer.loss(tape, tape.leaf(x), targets));
    }
    CHECK(test::live_bytes(Category::activation) == activations_before);
    const int64_t gradient_bytes = 4 * (kManyTokens * kDim + kManyClasses * (kDim + 1));
    check_peak("training", gradient_bytes + 64);
    CHECK(test::live_bytes(Category::gradient) - gradients_before == gradient_bytes);
    x.gradient.clear();
    layer.weight().gradient.clear();
    layer.bias()->gradient.clear();

    allocator(test::kTestDevice).reset_peak();
    Tape evaluation(false);
    layer.loss(evaluation, Tape::constant(x.value), targets);
    check_peak("evaluation", 0);
    layer.log_prob(x.value, targets);
    check_peak("log_prob", 0);
    layer.top_k(x.value, 3);
    check_peak("top_k", 0);
  }
}

TEST_CASE("full softmax: a weight tied to an embedding gets both gradients") {
  for (const int64_t chunk_bytes : {4096, 60}) {
    Rng rng(9);
    Embedding embedding("embedding", {.rows = 11, .dim = 5, .init_range = 1.0f}, rng,
                        test::kTestDevice);
    FullSoftmax layer("softmax", {.input = 5, .classes = 11, .chunk_bytes = chunk_bytes}, rng,
                      &embedding.weight(), test::kTestDevice);
    CHECK(&layer.weight() == &embedding.weight());
    CHECK(layer.parameters() == std::vector<Parameter*>{layer.bias()});
    const Tensor ids = Tensor::from<int32_t>({1, 2, 1, 10}, {4}, test::kTestData);
    const Tensor targets = Tensor::from<int32_t>({2, 1, 10, 3}, {4}, test::kTestData);
    const auto loss = [&](Tape& tape) {
      return scale(tape, layer.loss(tape, embedding.forward(tape, ids), targets), 10.0f);
    };
    {
      Tape tape;
      tape.backward(loss(tape));
      CHECK(embedding.weight().gradient.kind() == Gradient::Kind::dense);
    }
    const GradCheckResult result = grad_check(loss, {&embedding.weight(), layer.bias()});
    CHECK_MESSAGE(result.passed, result.where);
  }
}

TEST_CASE("full softmax: top k is that of sorting, ties in order of id") {
  for (const int64_t chunk_bytes : kChunkBytes) {
    for (const bool ties : {false, true}) {
      CAPTURE(chunk_bytes);
      CAPTURE(ties);
      Rng rng(10);
      FullSoftmax layer("softmax", {.input = 3, .classes = kClasses, .chunk_bytes = chunk_bytes},
                        rng, nullptr, test::kTestDevice);
      const Tensor x = test::random_normal({70, 3}, 11);
      fill_bias(layer);
      if (ties) {
        // Exact in any order of summation, and few different values.
        for (const Tensor& tensor : {x, layer.weight().value, layer.bias()->value}) {
          std::vector<float> values = tensor.to_vector<float>();
          for (float& value : values) value = std::round(value);
          test::set_values(tensor, values);
        }
      }
      const std::vector<double> log_probs = reference_log_probs(x, layer);
      for (const int64_t k : {int64_t{1}, int64_t{5}, kClasses}) {
        const TopK top = layer.top_k(x, k);
        const std::vector<int32_t> ids = top.ids.to_vector<int32_t>();
        const std::vector<float> scores = top.scores.to_vector<float>();
        for (int64_t t = 0; t < 70; ++t) {
          const double* row = log_probs.data() + t * kClasses;
          std::vector<int32_t> order(static_cast<size_t>(kClasses));
          std::iota(order.begin(), order.end(), 0);
          std::stable_sort(order.begin(), order.end(),
                           [&](int32_t a, int32_t b) { return row[a] > row[b]; });
          for (int64_t i = 0; i < k; ++i) {
            const size_t entry = static_cast<size_t>(t * k + i);
            const int32_t id = order[static_cast<size_t>(i)];
            const bool expected = ids[entry] == id && std::abs(scores[entry] - row[id]) < 1e-5;
            if (!expected) FAIL_CHECK("token ", t, " place ", i, " holds ", ids[entry]);
          }
        }
      }
    }
  }
}

TEST_CASE("full softmax: top k of a large vocabulary, the better the later") {
  constexpr int64_t kMany = 33278;
  Rng rng(10);
  FullSoftmax layer("softmax", {.input = 3, .classes = kMany, .chunk_bytes = 4000}, rng, nullptr,
                    test::kTestDevice);
  // Pairs of classes tie.
  std::vector<float> bias;
  for (int64_t i = 0; i < kMany; ++i) bias.push_back(static_cast<float>(i / 2) * 1e-3f);
  test::set_values(layer.bias()->value, bias);
  const Tensor x = Tensor::zeros({2, 3}, test::kTestData, DType::float32, test::kTestDevice);
  for (const int64_t k : {int64_t{40}, kMany - 1, kMany}) {
    CAPTURE(k);
    const std::vector<int32_t> ids = layer.top_k(x, k).ids.to_vector<int32_t>();
    int64_t wrong = 0;
    for (int64_t i = 0; i < 2 * k; ++i) {
      const int64_t place = i % k;
      const int64_t id = kMany - 2 - place / 2 * 2 + place % 2;
      if (ids[static_cast<size_t>(i)] != id) ++wrong;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("full softmax: the weight learns where the input takes no gradient") {
  Rng rng(12);
  FullSoftmax layer("softmax", {.input = 3, .classes = 5, .bias = false}, rng, nullptr,
                    test::kTestDevice);
  Tape tape;
  tape.backward(
      layer.loss(tape, Tape::constant(test::random_normal({4, 3}, 13)), some_targets(4, 5)));
  CHECK(layer.weight().gradient.kind() == Gradient::Kind::dense);
}

TEST_CASE("full softmax: what it refuses") {
  Rng rng(14);
  FullSoftmax layer("softmax", {.input = 3, .classes = 5}, rng, nullptr, test::kTestDevice);
  const Tensor x = test::random_normal({4, 3}, 15);
  const auto loss = [&](const Tensor& input, const Tensor& targets) {
    return test::refusal([&] {
      Tape tape;
      layer.loss(tape, Tape::constant(input), targets);
    });
  };
  const auto targets = [](std::vector<int32_t> values) {
    const int64_t count = static_cast<int64_t>(values.size());
    return Tensor::from(values, {count}, test::kTestData);
  };
  CHECK(loss(x, targets({0, 4, -1, 2})).empty());
  CHECK(loss(x, targets({0, 5, -1, 2})) ==
        "[softmax] target 5 at position 1 is outside 5 classes (-1 for none)");
  CHECK(test::contains(loss(x, targets({0, 0, 0, -2})), "target -2 at position 3"));
  CHECK(test::contains(loss(x, targets({0, 1})), "one for each of 4 tokens"));
  CHECK(test::contains(loss(x, test::random_normal({4}, 16)), "must be int32"));
  CHECK(test::contains(loss(test::random_normal({4, 2}, 17), targets({0, 1, 2, 3})),
                       "last axis must be 3"));
  CHECK(test::contains(test::refusal([&] {
                         layer.log_prob(x, targets({0, 5, 0, 0}));
                       }),
                       "target 5"));
  CHECK(test::contains(test::refusal([&] { layer.top_k(x, 0); }), "top 0 of 5"));
  CHECK(test::contains(test::refusal([&] { layer.top_k(x, 6); }), "top 6 of 5"));

  const auto make = [&](FullSoftmaxOptions options, Parameter* tied) {
    return test::refusal([&] { FullSoftmax("softmax", options, rng, tied, test::kTestDevice); });
  };
  Parameter table("table", {5, 4}, test::kTestDevice);
  CHECK(make({.input = 4, .classes = 5}, &table).empty());
  CHECK(test::contains(make({.input = 3, .classes = 5}, &table), "table has shape [5, 4]"));
  CHECK(test::contains(make({.input = 0, .classes = 5}, nullptr), "0 inputs"));
  CHECK(test::contains(make({.input = 3, .classes = 0}, nullptr), "0 classes"));
  CHECK(test::contains(make({.input = 3, .classes = 5, .chunk_bytes = 3}, nullptr),
                       "chunk_bytes is 3"));
}

}  // namespace sketchgrad
