#include "sketchgrad/layers/sampled_softmax.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <set>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {
namespace {

constexpr int64_t kClasses = 60;
constexpr int64_t kInput = 7;
// Samples; some classes are missed, or hit, by few of them. An emulated GPU is slow.
constexpr int kRepeats = test::kTestDevice == kCpu ? 3000 : 1500;

SampledSoftmaxOptions small_options(bool unique, bool correct_target, bool bias = true) {
  return {.softmax = {.input = kInput, .classes = kClasses, .bias = bias, .init_range = 0.5f},
          .sampler = {.samples = 20, .unique = unique},
          .correct_target = correct_target};
}

// A layer whose bias is not zero.
struct Fixture {
  Rng rng{5};
  SampledSoftmax layer;
  explicit Fixture(const SampledSoftmaxOptions& options)
      : layer("softmax", options, rng, nullptr, test::kTestDevice) {
    if (layer.bias() != nullptr) test::fill_normal(layer.bias()->value, 8);
  }
};

// With repeats, the most frequent class, the last one, and tokens without a target.
Tensor some_targets() {
  return Tensor::from<int32_t>({3, 59, 0, kernels::kIgnoredTarget, 3, 17, 0, 41}, {8},
                               test::kTestData);
}

double dot(const std::vector<float>& a, size_t i, const std::vector<float>& b, size_t j) {
  double sum = 0;
  for (size_t k = 0; k < kInput; ++k) sum += double{a[i * kInput + k]} * double{b[j * kInput + k]};
  return sum;
}

struct Expected {
  double loss = 0;
  std::vector<float> weight = std::vector<float>(kClasses * kInput);
  std::vector<float> bias = std::vector<float>(kClasses);
  std::vector<float> x;
};

// The formula of the header, a token at a time.
Expected reference(SampledSoftmax& layer, const Tensor& x, const Tensor& targets,
                   kernels::PhiloxKey key, bool correct_target) {
  const ClassSample sample = layer.sampler().draw(key);
  const auto ids = sample.ids.to_vector<int32_t>();
  const auto log_expected = sample.log_expected.to_vector<float>();
  const auto weight = layer.weight().value.to_vector<float>(), features = x.to_vector<float>();
  const auto bias = layer.bias()->value.to_vector<float>();
  const auto target = targets.to_vector<int32_t>();
  const double share = 1.0 / static_cast<double>(std::count_if(target.begin(), target.end(),
                                                               [](int32_t y) { return y >= 0; }));
  Expected result;
  std::vector<double> grad_weight(kClasses * kInput), grad_bias(kClasses);
  std::vector<double> grad_x(features.size());
  for (size_t t = 0; t < target.size(); ++t) {
    if (target[t] < 0) continue;
    const auto y = static_cast<size_t>(target[t]);
    const double offset = correct_target ? layer.sampler().log_expected(target[t]) : 0.0;
    std::vector<std::pair<size_t, double>> terms = {
        {y, std::exp(dot(features, t, weight, y) + bias[y] - offset)}};
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto v = static_cast<size_t>(ids[i]);
      if (v == y) continue;
      terms.emplace_back(v, std::exp(dot(features, t, weight, v) + bias[v] - log_expected[i]));
    }
    double total = 0;
    for (const auto& [v, term] : terms) total += term;
    result.loss -= share * std::log(terms[0].second / total);
    for (const auto& [v, term] : terms) {
      const double gradient = share * (term / total - (v == y));
      grad_bias[v] += gradient;
      for (size_t k = 0; k < kInput; ++k) {
        grad_weight[v * kInput + k] += gradient * features[t * kInput + k];
        grad_x[t * kInput + k] += gradient * weight[v * kInput + k];
      }
    }
  }
  result.weight.assign(grad_weight.begin(), grad_weight.end());
  result.bias.assign(grad_bias.begin(), grad_bias.end());
  result.x.assign(grad_x.begin(), grad_x.end());
  return result;
}

TEST_CASE("sampled softmax: loss and gradients by the formula") {
  for (const bool unique : {true, false}) {
    for (const bool correct_target : {true, false}) {
      for (const int64_t chunk_bytes : {4, 400, 1 << 20}) {
        CAPTURE(unique);
        CAPTURE(correct_target);
        CAPTURE(chunk_bytes);
        SampledSoftmaxOptions options = small_options(unique, correct_target);
        options.softmax.chunk_bytes = chunk_bytes;
        Fixture fixture(options);
        Parameter x("x", {8, kInput}, test::kTestDevice);
        test::fill_normal(x.value, 3);
        const Tensor targets = some_targets();
        Rng copy = fixture.rng;
        const Expected expected =
            reference(fixture.layer, x.value, targets, copy.next(), correct_target);
        Tape tape;
        const Variable loss = fixture.layer.loss(tape, tape.leaf(x), targets);
        CHECK(loss.value.item() == doctest::Approx(expected.loss).epsilon(1e-5));
        tape.backward(loss);
        CHECK(test::worst_difference(test::full_gradient(x), expected.x) < test::tolerance(2e-6));
        CHECK(test::worst_difference(test::full_gradient(fixture.layer.weight()), expected.weight) <
              test::tolerance(2e-6));
        CHECK(test::worst_difference(test::full_gradient(*fixture.layer.bias()), expected.bias) <
              test::tolerance(2e-6));
      }
    }
  }
}

TEST_CASE("sampled softmax: gradients agree with finite differences") {
  for (const bool bias : {true, false}) {
    for (const bool correct_target : {true, false}) {
      Fixture fixture(small_options(true, correct_target, bias));
      Parameter x("x", {2, 4, kInput}, test::kTestDevice);
      test::fill_normal(x.value, 3);
      std::vector<Parameter*> parameters = fixture.layer.parameters();
      parameters.push_back(&x);
      const GradCheckResult result = grad_check(
          [&](Tape& tape) {
            fixture.rng = Rng(11);  // the same sample each time
            return fixture.layer.loss(tape, tape.leaf(x), some_targets());
          },
          parameters, {.max_elements = 200});
      CHECK_MESSAGE(result.passed, result.where);
    }
  }
}

// Mean and its standard error, element by element.
class Average {
 public:
  void add(const std::vector<double>& values) {
    sum_.resize(values.size());
    squares_.resize(values.size());
    for (size_t k = 0; k < values.size(); ++k) {
      sum_[k] += values[k];
      squares_[k] += values[k] * values[k];
    }
    ++count_;
  }
  // The largest distance from `expected` in standard errors, and the mean of their squares.
  std::pair<double, double> deviations(const std::vector<double>& expected) const {
    double worst = 0, mean_square = 0;
    for (size_t k = 0; k < expected.size(); ++k) {
      const double mean = sum_[k] / count_, square = squares_[k] / count_ - mean * mean;
      const double error = std::sqrt(std::max(square, 0.0) / count_);
      const double rounding = 1e-6 * (1 + std::abs(expected[k]));
      const double deviation = std::abs(mean - expected[k]) / (error + rounding);
      worst = std::max(worst, deviation);
      mean_square += deviation * deviation / static_cast<double>(expected.size());
    }
    return {worst, mean_square};
  }

 private:
  std::vector<double> sum_, squares_;
  double count_ = 0;
};

struct Step {
  double loss = 0;
  std::vector<double> gradient;  // of weight, bias and x
};

Step step(SampledSoftmax& layer, Parameter& x, const Tensor& targets) {
  Step result;
  Tape tape;
  const Variable loss = layer.loss(tape, tape.leaf(x), targets);
  result.loss = loss.value.item();
  tape.backward(loss);
  for (Parameter* parameter : {&layer.weight(), layer.bias(), &x}) {
    const std::vector<float> part = test::full_gradient(*parameter);
    result.gradient.insert(result.gradient.end(), part.begin(), part.end());
    parameter->gradient.clear();
  }
  return result;
}

// With the sum Z over all classes and its estimate: Z = e^{loss + z_y}, and its gradient is that of
// loss + z_y, times Z. Both are sums over classes, so their estimates are right on average.
TEST_CASE("sampled softmax: the sum over the sample and its gradient are unbiased") {
  for (const bool unique : {true, false}) {
    for (const ClassDistribution distribution :
         {ClassDistribution::log_uniform, ClassDistribution::uniform}) {
      CAPTURE(unique);
      CAPTURE(static_cast<int>(distribution));
      SampledSoftmaxOptions options = small_options(unique, false);
      options.sampler.samples = 10;  // so few that every class is missed by many
      options.sampler.distribution = distribution;
      Fixture fixture(options);
      Parameter x("x", {1, kInput}, test::kTestDevice);
      test::fill_normal(x.value, 3);
      constexpr size_t kTarget = 17;
      const Tensor targets = Tensor::from<int32_t>({kTarget}, {1}, test::kTestData);
      const auto weight = fixture.layer.weight().value.to_vector<float>();
      const auto bias = fixture.layer.bias()->value.to_vector<float>();
      const auto features = x.value.to_vector<float>();
      const double target_logit = dot(features, 0, weight, kTarget) + bias[kTarget];
      const auto sum_and_gradient = [&] {
        Step one = step(fixture.layer, x, targets);
        for (size_t k = 0; k < kInput; ++k) {
          one.gradient[kTarget * kInput + k] += features[k];
          one.gradient[(kClasses * kInput) + kClasses + k] += weight[kTarget * kInput + k];
        }
        one.gradient[kClasses * kInput + kTarget] += 1;
        const double sum = std::exp(one.loss + target_logit);
        for (double& value : one.gradient) value *= sum;
        one.gradient.push_back(sum);
        return one.gradient;
      };
      fixture.layer.set_training(false);
      const std::vector<double> exact = sum_and_gradient();
      fixture.layer.set_training(true);
      Average average;
      for (int i = 0; i < kRepeats; ++i) average.add(sum_and_gradient());
      const auto [worst, mean_square] = average.deviations(exact);
      CHECK(worst < 5);
      CHECK(mean_square < 2);
    }
  }
}

// The loss is a logarithm of that sum: it is right on average where the sample is large.
TEST_CASE("sampled softmax: the gradient of a large sample is on average the full softmax's") {
  for (const ClassDistribution distribution :
       {ClassDistribution::log_uniform, ClassDistribution::uniform}) {
    CAPTURE(static_cast<int>(distribution));
    SampledSoftmaxOptions options = small_options(false, false);
    options.sampler.samples = 20000;
    options.sampler.distribution = distribution;
    Fixture fixture(options);
    Parameter x("x", {8, kInput}, test::kTestDevice);
    test::fill_normal(x.value, 3);
    const Tensor targets = some_targets();
    fixture.layer.set_training(false);
    const Step exact = step(fixture.layer, x, targets);
    fixture.layer.set_training(true);
    Average average;
    for (int i = 0; i < kRepeats / 30; ++i) average.add(step(fixture.layer, x, targets).gradient);
    const auto [worst, mean_square] = average.deviations(exact.gradient);
    CHECK(worst < 5);
    CHECK(mean_square < 2);
  }
}

TEST_CASE("sampled softmax: evaluation is the full softmax's") {
  Fixture fixture(small_options(true, true));
  Rng rng(1);
  FullSoftmax full("softmax", {.input = kInput, .classes = kClasses}, rng, nullptr,
                   test::kTestDevice);
  full.weight().value.copy_from(fixture.layer.weight().value);
  full.bias()->value.copy_from(fixture.layer.bias()->value);
  const Tensor x = test::random_normal({8, kInput}, 4);
  const Tensor targets = some_targets();
  fixture.layer.set_training(false);
  Tape tape(false);
  CHECK(fixture.layer.loss(tape, Tape::constant(x), targets).value.item() ==
        full.loss(tape, Tape::constant(x), targets).value.item());
  CHECK(fixture.layer.log_prob(x, targets).to_vector<float>() ==
        full.log_prob(x, targets).to_vector<float>());
  const TopK a = fixture.layer.top_k(x, 5), b = full.top_k(x, 5);
  CHECK(a.ids.to_vector<int32_t>() == b.ids.to_vector<int32_t>());
  CHECK(a.scores.to_vector<float>() == b.scores.to_vector<float>());
  CHECK(fixture.layer.classes() == kClasses);
}

TEST_CASE("sampled softmax: nothing of a step is of the size of the table") {
  constexpr int64_t kMany = 100000, kDim = 16, kTokens = 50;
  Rng rng(2);
  SampledSoftmax layer("softmax",
                       {.softmax = {.input = kDim, .classes = kMany}, .sampler = {.samples = 300}},
                       rng, nullptr, test::kTestDevice);
  Parameter x("x", {kTokens, kDim}, test::kTestDevice);
  test::fill_normal(x.value, 5);
  const Tensor targets = test::random_ids({kTokens}, kMany, 6);
  Rng copy = rng;
  const auto sampled = layer.sampler().draw(copy.next()).ids.to_vector<int32_t>();
  std::set<int32_t> rows(sampled.begin(), sampled.end());
  for (const int32_t target : targets.to_vector<int32_t>()) rows.insert(target);
  const auto count = static_cast<int64_t>(rows.size());

  allocator(test::kTestDevice).reset_peak();
  const MemoryFigures before = allocator(test::kTestDevice).current();
  Tape tape;
  const Variable loss = layer.loss(tape, tape.leaf(x), targets);
  tape.backward(loss);
  CHECK(layer.weight().gradient.rows().count() == count);
  CHECK(layer.bias()->gradient.rows().count() == count);
  const MemoryFigures peak = allocator(test::kTestDevice).peak();
  const auto grown = [&](Category category) { return peak[category] - before[category]; };
  const int64_t floats = static_cast<int64_t>(sizeof(float));
  // Gradients of the rows, the bias and x, and the seed of backward.
  CHECK(grown(Category::gradient) == floats * (count * kDim + count + kTokens * kDim + 1));
  CHECK(grown(Category::activation) == floats);
  // The rows, logits, and a few floats a row and token.
  CHECK(grown(Category::workspace) <
        floats * (count * kDim + kTokens * count + 4 * count + 8 * kTokens + kMany / 16));
}

TEST_CASE("sampled softmax: a tied table takes the rows of both, and steps through sketches") {
  Rng rng(3);
  Embedding embedding("embedding", {.rows = 5000, .dim = 12}, rng, test::kTestDevice);
  SampledSoftmax layer("softmax",
                       {.softmax = {.input = 12, .classes = 5000}, .sampler = {.samples = 40}}, rng,
                       &embedding.weight(), test::kTestDevice);
  Optimizer optimizer(Adam{.learning_rate = 0.03f});
  optimizer.add(embedding.weight(), {CountSketch{0.2}, CountMin{0.2}});
  optimizer.add(*layer.bias(), {CountSketch{0.2}, CountMin{0.2}});
  const Tensor ids = test::random_ids({30}, 5000, 7), targets = test::random_ids({30}, 5000, 8);
  const std::vector<float> before = embedding.weight().value.to_vector<float>();
  const auto full_loss = [&] {
    layer.set_training(false);
    Tape tape(false);
    const float loss = layer.loss(tape, embedding.forward(tape, ids), targets).value.item();
    layer.set_training(true);
    return loss;
  };
  const float first = full_loss();
  for (int i = 0; i < 40; ++i) {
    Tape tape;
    tape.backward(layer.loss(tape, embedding.forward(tape, ids), targets));
    CHECK(embedding.weight().gradient.rows().count() <= 30 + 30 + 80);
    optimizer.step();
    optimizer.clear_gradients();
  }
  CHECK(full_loss() < 0.7f * first);
  CHECK(test::worst_difference(embedding.weight().value.to_vector<float>(), before) > 0.01);
}

TEST_CASE("sampled softmax: the same bits with one and two threads") {
  const auto step = [](size_t threads) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    Rng rng(9);
    SampledSoftmax layer("softmax",
                         {.softmax = {.input = 65, .classes = 3000, .chunk_bytes = 100000},
                          .sampler = {.samples = 700}},
                         rng, nullptr, test::kTestDevice);
    Parameter x("x", {130, 65}, test::kTestDevice);
    test::fill_normal(x.value, 5);
    Tape tape;
    const Variable loss = layer.loss(tape, tape.leaf(x), test::random_ids({130}, 3000, 6));
    tape.backward(loss);
    std::vector<float> all = layer.weight().gradient.rows().values.to_vector<float>();
    const std::vector<float> more = test::full_gradient(x);
    all.insert(all.end(), more.begin(), more.end());
    all.push_back(loss.value.item());
    return all;
  };
  CHECK(step(1) == step(2));
}

TEST_CASE("sampled softmax: no tokens, no targets, and every target ignored") {
  Fixture fixture(small_options(true, true));
  for (const int64_t tokens : {0, 3}) {
    CAPTURE(tokens);
    Parameter x("x", {tokens, kInput}, test::kTestDevice);
    const Tensor none = test::ignored_targets(tokens);
    Tape tape;
    const Variable loss = fixture.layer.loss(tape, tape.leaf(x), none);
    CHECK(loss.value.item() == 0.0f);
    tape.backward(loss);
    for (const float value : test::full_gradient(fixture.layer.weight())) CHECK(value == 0.0f);
    fixture.layer.weight().gradient.clear();
    fixture.layer.bias()->gradient.clear();
  }
}

TEST_CASE("sampled softmax: bad arguments are refused") {
  Fixture fixture(small_options(true, true));
  Tape tape;
  const Variable x = Tape::constant(test::random_normal({2, kInput}, 1));
  const auto refused = [&](const Variable& features, const std::vector<int32_t>& targets) {
    return test::refusal([&] {
      fixture.layer.loss(
          tape, features,
          Tensor::from(targets, {static_cast<int64_t>(targets.size())}, test::kTestData));
    });
  };
  CHECK(test::contains(refused(x, {1, kClasses}), "target 60 at position 1 is outside 60 classes"));
  CHECK(test::contains(refused(x, {1}), "one for each of 2 tokens"));
  CHECK(test::contains(refused(Tape::constant(test::random_normal({2, 3}, 1)), {1, 2}),
                       "its last axis must be 7"));
  Rng rng(1);
  CHECK(test::contains(
      test::refusal([&] {
        SampledSoftmax("softmax",
                       {.softmax = {.input = 3, .classes = 20}, .sampler = {.samples = 20}}, rng);
      }),
      "take fewer, or a full softmax"));
}

}  // namespace
}  // namespace sketchgrad
