#include "sketchgrad/layers/adaptive_softmax.h"

#include <doctest/doctest.h>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/layers/adaptive_cutoffs.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {
namespace {

constexpr int64_t kClasses = 23;
constexpr int64_t kInput = 7;

AdaptiveSoftmaxOptions small_options(std::vector<int64_t> cutoffs, bool head_bias = false) {
  return {.input = kInput,
          .classes = kClasses,
          .cutoffs = std::move(cutoffs),
          .division = 2.0,
          .head_bias = head_bias,
          .init_range = 0.5f};
}

// In every part of [4, 10], and one token without a target.
Tensor some_targets() {
  return Tensor::from<int32_t>({0, 22, 4, kernels::kIgnoredTarget, 9, 3, 10, 4}, {8},
                               test::kTestData);
}

TEST_CASE("adaptive softmax: as PyTorch") {
  for (const nlohmann::json& golden : test::golden_cases("adaptive_softmax")) {
    CAPTURE(golden.at("name").get<std::string>());
    for (const int64_t chunk_bytes : {int64_t{24} << 20, int64_t{100}, int64_t{4}}) {
      CAPTURE(chunk_bytes);
      Rng rng(1);
      AdaptiveSoftmax layer("softmax",
                            {.input = 8,
                             .classes = 23,
                             .cutoffs = golden.at("cutoffs").get<std::vector<int64_t>>(),
                             .division = golden.at("division").get<double>(),
                             .head_bias = golden.at("head_bias").get<int>() != 0,
                             .chunk_bytes = chunk_bytes},
                            rng, nullptr, test::kTestDevice);
      CHECK(layer.parameters().size() == golden.at("weights").size());
      for (const auto& [name, array] : golden.at("weights").items()) {
        test::find_parameter(layer, "softmax." + name).value.copy_from(test::golden_tensor(array));
      }
      Parameter x("x", golden.at("x").at("shape").get<Shape>(), test::kTestDevice);
      x.value.copy_from(test::golden_tensor(golden.at("x")));
      const Tensor targets = test::golden_ids(golden.at("targets"));
      Tape tape;
      const Variable loss = layer.loss(tape, tape.leaf(x), targets);
      CHECK(loss.value.item() == doctest::Approx(golden.at("loss").get<double>()).epsilon(1e-6));
      tape.backward(loss);
      CHECK(test::worst_difference(test::full_gradient(x), test::golden_values(golden.at(
                                                               "grad_x"))) < test::tolerance(2e-6));
      for (const auto& [name, array] : golden.at("grad_weights").items()) {
        CAPTURE(name);
        CHECK(test::worst_difference(
                  test::full_gradient(test::find_parameter(layer, "softmax." + name)),
                  test::golden_values(array)) < test::tolerance(2e-6));
      }
      CHECK(test::worst_difference(layer.log_prob(x.value, targets).to_vector<float>(),
                                   test::golden_values(golden.at("target_log_probs"))) <
            test::tolerance(3e-6));
      const TopK top = layer.top_k(x.value, 5);
      CHECK(top.ids.to_vector<int32_t>() ==
            golden.at("top_ids").at("data").get<std::vector<int32_t>>());
      CHECK(test::worst_difference(top.scores.to_vector<float>(),
                                   test::golden_values(golden.at("top_scores"))) <
            test::tolerance(3e-6));
    }
  }
}

TEST_CASE("adaptive softmax: gradients agree with finite differences") {
  for (const bool tied : {false, true}) {
    for (const bool head_bias : {false, true}) {
      CAPTURE(tied);
      CAPTURE(head_bias);
      Rng rng(5);
      Parameter table("table", {kClasses, kInput}, test::kTestDevice);
      test::fill_normal(table.value, 9);
      AdaptiveSoftmaxOptions options = small_options({4, 10}, head_bias);
      if (tied) options.division = 1.0;
      AdaptiveSoftmax layer("softmax", options, rng, tied ? &table : nullptr, test::kTestDevice);
      Parameter x("x", {2, 4, kInput}, test::kTestDevice);
      test::fill_normal(x.value, 3);
      std::vector<Parameter*> parameters = layer.parameters();
      parameters.push_back(&x);
      if (tied) parameters.push_back(&table);
      const GradCheckResult result =
          grad_check([&](Tape& tape) { return layer.loss(tape, tape.leaf(x), some_targets()); },
                     parameters, {.max_elements = test::kTestDevice == kCpu ? 200 : 30});
      CHECK_MESSAGE(result.passed, result.where);
    }
  }
}

TEST_CASE("adaptive softmax: probabilities add up to 1, tied or not") {
  for (const bool tied : {false, true}) {
    Rng rng(5);
    Parameter table("table", {kClasses, kInput}, test::kTestDevice);
    test::fill_normal(table.value, 9);
    AdaptiveSoftmaxOptions options = small_options({1, 2, 22}, true);
    if (tied) options.division = 1.0;
    AdaptiveSoftmax layer("softmax", options, rng, tied ? &table : nullptr, test::kTestDevice);
    const Tensor x = test::random_normal({3, kInput}, 4);
    const TopK all = layer.top_k(x, kClasses);
    const auto scores = all.scores.to_vector<float>();
    const auto ids = all.ids.to_vector<int32_t>();
    for (size_t t = 0; t < 3; ++t) {
      double total = 0;
      for (size_t i = 0; i < kClasses; ++i) total += std::exp(double{scores[t * kClasses + i]});
      CHECK(total == doctest::Approx(1.0).epsilon(1e-5));
      const Tensor targets = Tensor::from<int32_t>(
          {ids[t * kClasses + 1], ids[t * kClasses + 1], ids[t * kClasses + 1]}, {3},
          test::kTestData);
      CHECK(layer.log_prob(x, targets).to_vector<float>()[t] ==
            doctest::Approx(scores[t * kClasses + 1]).epsilon(1e-4));
    }
  }
}

TEST_CASE("adaptive softmax: a cluster without targets has no gradient") {
  Rng rng(5);
  Parameter table("table", {kClasses, kInput}, test::kTestDevice);
  AdaptiveSoftmaxOptions options = small_options({4, 10});
  options.division = 1.0;
  for (Parameter* tied : {static_cast<Parameter*>(nullptr), &table}) {
    AdaptiveSoftmax layer("softmax", options, rng, tied, test::kTestDevice);
    Parameter x("x", {2, kInput}, test::kTestDevice);
    test::fill_normal(x.value, 3);
    Tape tape;
    tape.backward(
        layer.loss(tape, tape.leaf(x), Tensor::from<int32_t>({1, 12}, {2}, test::kTestData)));
    CHECK(test::find_parameter(layer, "softmax.tail.0.0.weight").gradient.empty());
    CHECK_FALSE(test::find_parameter(layer, "softmax.tail.1.0.weight").gradient.empty());
    if (tied == nullptr) {
      CHECK(test::find_parameter(layer, "softmax.tail.0.1.weight").gradient.empty());
      CHECK(layer.class_tables().size() == 3);
      continue;
    }
    // Rows of the head and of the second cluster.
    CHECK(table.gradient.kind() == Gradient::Kind::row_sparse);
    std::vector<int32_t> ids = table.gradient.rows().ids.to_vector<int32_t>();
    std::erase(ids, -1);  // padding, on CUDA
    CHECK(ids ==
          std::vector<int32_t>{0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22});
    CHECK(layer.class_tables() == std::vector<Parameter*>{&table});
  }
}

TEST_CASE("adaptive softmax: gradients are those of the parts that a step computes") {
  constexpr int64_t kMany = 20000, kDim = 16, kTokens = 20;
  Rng rng(2);
  AdaptiveSoftmax layer("softmax", {.input = kDim, .classes = kMany, .cutoffs = {100, 1000}}, rng,
                        nullptr, test::kTestDevice);
  Parameter x("x", {kTokens, kDim}, test::kTestDevice);
  test::fill_normal(x.value, 5);
  const auto gradient_bytes = [&](int32_t limit) {
    const Tensor targets = test::random_ids({kTokens}, limit, 6);
    allocator(test::kTestDevice).reset_peak();
    const MemoryFigures before = allocator(test::kTestDevice).current();
    Tape tape;
    tape.backward(layer.loss(tape, tape.leaf(x), targets));
    for (Parameter* parameter : layer.parameters()) parameter->gradient.clear();
    x.gradient.clear();
    return allocator(test::kTestDevice).peak()[Category::gradient] - before[Category::gradient];
  };
  // Head, x, and the seed of backward; then the first cluster, of 4 columns, as well. What its
  // tokens hand back is not there at the peak.
  const int64_t head = 4 * (102 * kDim + kTokens * kDim + 1);
  CHECK(gradient_bytes(100) == head);
  CHECK(gradient_bytes(1000) >= head + 4 * (900 * 4 + 4 * kDim));
  CHECK(gradient_bytes(1000) < head + 4 * (900 * 4 + 4 * kDim + kTokens * 4 + 1));
}

TEST_CASE("adaptive softmax: a tied table learns with the embedding, through sketches") {
  Rng rng(3);
  Embedding embedding("embedding", {.rows = 300, .dim = 12}, rng, test::kTestDevice);
  AdaptiveSoftmax layer("softmax",
                        {.input = 12, .classes = 300, .cutoffs = {20, 100}, .division = 1.0}, rng,
                        &embedding.weight(), test::kTestDevice);
  Optimizer optimizer(Adam{.learning_rate = 0.03f});
  optimizer.add(embedding.weight(), {CountSketch{0.3}, CountMin{0.3}});
  optimizer.add(layer.parameters());
  const Tensor ids = test::random_ids({30}, 300, 7), targets = test::random_ids({30}, 300, 8);
  float first = 0, last = 0;
  for (int i = 0; i < 30; ++i) {
    Tape tape;
    const Variable loss = layer.loss(tape, embedding.forward(tape, ids), targets);
    (i == 0 ? first : last) = loss.value.item();
    tape.backward(loss);
    optimizer.step();
    optimizer.clear_gradients();
  }
  CHECK(last < 0.5f * first);
}

TEST_CASE("adaptive softmax: no tokens, and every target ignored") {
  Rng rng(5);
  AdaptiveSoftmax layer("softmax", small_options({4, 10}, true), rng, nullptr, test::kTestDevice);
  for (const int64_t tokens : {0, 3}) {
    Parameter x("x", {tokens, kInput}, test::kTestDevice);
    const Tensor none = test::ignored_targets(tokens);
    Tape tape;
    const Variable loss = layer.loss(tape, tape.leaf(x), none);
    CHECK(loss.value.item() == 0.0f);
    tape.backward(loss);
    for (Parameter* parameter : layer.parameters()) {
      for (const float value : test::full_gradient(*parameter)) CHECK(value == 0.0f);
      parameter->gradient.clear();
    }
    CHECK(layer.top_k(x.value, 2).ids.numel() == 2 * tokens);
  }
}

TEST_CASE("adaptive softmax: options and arguments that do not fit are refused") {
  const auto refused = [](const AdaptiveSoftmaxOptions& options, Parameter* tied = nullptr) {
    return test::refusal([&] {
      Rng rng(1);
      AdaptiveSoftmax("softmax", options, rng, tied, test::kTestDevice);
    });
  };
  CHECK(test::contains(refused(small_options({})), "no cutoffs"));
  CHECK(test::contains(refused(small_options({4, 4})), "cutoff 4 after 4"));
  CHECK(test::contains(refused(small_options({0, 4})), "cutoff 0 after 0"));
  CHECK(test::contains(refused(small_options({4, 23})), "below 23 classes"));
  Parameter table("table", {kClasses, kInput}, test::kTestDevice);
  CHECK(test::contains(refused(small_options({4}), &table), "division 2"));
  AdaptiveSoftmaxOptions options = small_options({4});
  options.division = 1.0;
  Parameter narrow("narrow", {kClasses, 3}, test::kTestDevice);
  CHECK(test::contains(refused(options, &narrow), "tied weight narrow has shape [23, 3]"));
  Rng rng(1);
  AdaptiveSoftmax layer("softmax", options, rng, nullptr, test::kTestDevice);
  Tape tape;
  const Variable x = Tape::constant(test::random_normal({2, kInput}, 1));
  CHECK(test::contains(test::refusal([&] {
                         layer.loss(tape, x, Tensor::from<int32_t>({1, 23}, {2}, test::kTestData));
                       }),
                       "target 23 at position 1"));
  CHECK_THROWS_AS(layer.top_k(x.value, kClasses + 1), InvalidArgument);
}

// ---- adaptive_cutoffs.h

std::vector<int64_t> zipf_counts(int64_t classes) {
  std::vector<int64_t> counts;
  for (int64_t v = 0; v < classes; ++v) counts.push_back(1 + 50'000'000 / (v + 1));
  return counts;
}

TEST_CASE("cutoffs: no others of the same kind are expected to be faster") {
  const CutoffOptions options{
      .input = 64, .tokens = 500, .division = 2.0, .max_clusters = 2, .head_share = 0};
  const ProductCost cost{1e-5, 1e-11};
  const std::vector<int64_t> counts = zipf_counts(60);
  const std::vector<int64_t> chosen = choose_cutoffs(counts, cost, options);
  const double least = expected_seconds(counts, chosen, cost, options);
  for (int64_t a = 1; a < 60; ++a) {
    CHECK(expected_seconds(counts, {a}, cost, options) >= least * (1 - 1e-12));
    for (int64_t b = a + 1; b < 60; ++b) {
      CHECK(expected_seconds(counts, {a, b}, cost, options) >= least * (1 - 1e-12));
    }
  }
}

TEST_CASE("cutoffs: of many words they are as the paper's, a small head and large tails") {
  const CutoffOptions options{.input = 512, .tokens = 1000};
  const std::vector<int64_t> counts = zipf_counts(800000);
  const ProductCost cost{2e-5, 1e-11};
  const std::vector<int64_t> chosen = choose_cutoffs(counts, cost, options);
  CHECK(chosen.size() >= 2);
  // As many as hold four fifths of a Zipf distribution, and no more: time asks for few.
  CHECK(chosen[0] > 40000);
  CHECK(chosen[0] < 60000);
  CutoffOptions small = options;
  small.head_share = 0.5;
  CHECK(choose_cutoffs(counts, cost, small)[0] < 1500);
  CHECK(std::is_sorted(chosen.begin(), chosen.end()));
  const double full = 3 * cost.seconds(1000, 800000, 512);
  CHECK(expected_seconds(counts, chosen, cost, options) < full / 10);
  CHECK(choose_cutoffs(counts, cost, options) == chosen);
  // Where a call costs much, few clusters are better.
  CHECK(choose_cutoffs(counts, {1.0, 1e-11}, options).size() == 1);
}

TEST_CASE("cutoffs: products are measured, and odd counts refused") {
  const ProductCost cost = measure_product_cost(64, 32, test::kTestDevice);
  CHECK(cost.call >= 0);
  CHECK(cost.multiply_add > 0);
  const CutoffOptions options{.input = 8, .tokens = 10};
  const auto refused = [&](const std::vector<int64_t>& counts) {
    return test::refusal([&] { choose_cutoffs(counts, cost, options); });
  };
  CHECK(test::contains(refused({3}), "1 classes"));
  CHECK(test::contains(refused({3, 4}), "class 1 occurs 4 times"));
  CHECK(test::contains(refused({0, 0}), "no class occurs"));
}

}  // namespace
}  // namespace sketchgrad
