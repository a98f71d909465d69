#include "sketchgrad/kernels/softmax.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/softmax_cpu_rows.h"
#include "sketchgrad/kernels/softmax_impl.h"
#include "sketchgrad/kernels/softmax_lanes.h"
#include "sketchgrad/tests/support/emulated_warp.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;

namespace {

// Of the sum over a block of the vocabulary, in one lane where the build does not vectorise it.
constexpr double kTolerance = 5e-6;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Batch {
  Batch(int64_t tokens_, int64_t vocab_, float spread, uint32_t seed = 1)
      : tokens(tokens_),
        vocab(vocab_),
        logits(static_cast<size_t>(tokens * vocab)),
        bias(static_cast<size_t>(vocab)),
        targets(static_cast<size_t>(tokens)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    for (float& value : logits) value = normal(random);
    for (float& value : bias) value = normal(random);
    for (int32_t& target : targets) {
      target = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
    }
  }
  Matrix matrix() { return contiguous(logits.data(), tokens, vocab); }

  int64_t tokens, vocab;
  std::vector<float> logits, bias;
  std::vector<int32_t> targets;
};

struct State {
  explicit State(int64_t tokens)
      : max(static_cast<size_t>(tokens)), sum(max.size()), target_logit(max.size()) {}
  OnlineSoftmax view() { return {max.data(), sum.data(), target_logit.data()}; }
  std::vector<float> max, sum, target_logit;
};

// Of one row, in double precision and all at once.
struct Reference {
  Reference(const Batch& batch, int64_t t, bool with_bias) {
    const auto begin = batch.logits.begin() + t * batch.vocab;
    logits.assign(begin, begin + batch.vocab);
    for (size_t v = 0; with_bias && v < logits.size(); ++v) {
      logits[v] = static_cast<double>(static_cast<float>(logits[v]) + batch.bias[v]);
    }
    const double max = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit - max);
    log_sum_exp = max + std::log(sum);
  }
  double log_probability(int64_t v) const { return logits[static_cast<size_t>(v)] - log_sum_exp; }
  std::vector<double> logits;
  double log_sum_exp = 0;
};

// Losses over chunks of the vocabulary, the gradient left in the batch's logits.
std::vector<float> losses_and_gradient(Batch& batch, int64_t chunk, bool with_bias, float scale) {
  const Exec exec = test::cpu_exec();
  State state(batch.tokens);
  online_softmax_begin(exec, state.view(), batch.tokens);
  for (int64_t v = 0; v < batch.vocab; v += chunk) {
    const int64_t size = std::min(chunk, batch.vocab - v);
    online_softmax_update(exec, batch.matrix().columns(v, size),
                          with_bias ? batch.bias.data() + v : nullptr, v, batch.targets.data(),
                          state.view());
  }
  std::vector<float> losses(static_cast<size_t>(batch.tokens));
  online_softmax_losses(exec, state.view(), batch.targets.data(), batch.tokens, losses.data());
  for (int64_t v = 0; v < batch.vocab; v += chunk) {
    const int64_t size = std::min(chunk, batch.vocab - v);
    softmax_cross_entropy_gradient(exec, batch.matrix().columns(v, size), nullptr, v,
                                   batch.targets.data(), state.view(), scale);
  }
  return losses;
}

void check_against_reference(Batch batch, int64_t chunk, bool with_bias) {
  const Batch before = batch;
  constexpr float kScale = 0.25f;
  const std::vector<float> losses = losses_and_gradient(batch, chunk, with_bias, kScale);
  CAPTURE(batch.tokens);
  CAPTURE(batch.vocab);
  CAPTURE(chunk);
  int64_t wrong = 0;
  for (int64_t t = 0; t < batch.tokens; ++t) {
    const Reference reference(before, t, with_bias);
    const int32_t target = batch.targets[static_cast<size_t>(t)];
    const double loss = target == kIgnoredTarget ? 0 : -reference.log_probability(target);
    // Not of the logits' size, however large they are.
    wrong += !(std::fabs(losses[static_cast<size_t>(t)] - loss) <= kTolerance * (1 + loss));
    for (int64_t v = 0; v < batch.vocab; ++v) {
      const double gradient =
          target == kIgnoredTarget
              ? 0
              : kScale * (std::exp(reference.log_probability(v)) - (v == target));
      wrong +=
          !(std::fabs(batch.matrix()(t, v) - gradient) <= kTolerance * std::fabs(gradient) + 1e-7);
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("chunked cross-entropy agrees with a double-precision softmax") {
  for (const int64_t vocab : {1, 2, 7, 33, 1000, 5000}) {
    for (const int64_t chunk : {int64_t{1}, int64_t{33}, int64_t{2500}, vocab}) {
      if (chunk > vocab || vocab / chunk > 200) continue;
      check_against_reference(Batch(5, vocab, 2.0f), chunk, false);
      check_against_reference(Batch(5, vocab, 2.0f), chunk, true);
    }
  }
}

TEST_CASE("cross-entropy of large logits is exact to rounding") {
  check_against_reference(Batch(7, 3000, 1e4f), 1000, false);
  check_against_reference(Batch(7, 33, 1e30f), 7, false);
  Batch near(3, 100, 1.0f);
  for (float& logit : near.logits) logit = 10000.0f + std::round(logit * 8) / 8;
  check_against_reference(near, 33, false);
}

TEST_CASE("ignored tokens have no loss and no gradient") {
  Batch batch(6, 40, 1.0f);
  batch.targets[0] = batch.targets[5] = kIgnoredTarget;
  check_against_reference(batch, 16, true);
  for (int64_t v = 0; v < 40; ++v) batch.matrix()(0, v) = kInfinity;
  const std::vector<float> losses = losses_and_gradient(batch, 16, false, 1.0f);
  CHECK(losses[0] == 0.0f);
  for (int64_t v = 0; v < 40; ++v) CHECK(batch.matrix()(0, v) == 0.0f);
}

TEST_CASE("masked logits of -infinity are safe, also where they fill a chunk") {
  Batch batch(4, 90, 1.0f);
  for (int64_t v = 0; v < 60; ++v) batch.matrix()(0, v) = -kInfinity;   // the first two chunks
  for (int64_t v = 30; v < 90; ++v) batch.matrix()(1, v) = -kInfinity;  // the last two
  for (int64_t v = 0; v < 90; ++v) batch.matrix()(2, v) = v == 44 ? 3.0f : -kInfinity;
  batch.targets = {75, 3, 44, 0};
  check_against_reference(batch, 30, false);

  batch.targets[1] = 50;
  Batch masked_target = batch;
  CHECK(losses_and_gradient(masked_target, 30, false, 1.0f)[1] == kInfinity);
}

TEST_CASE("a row without a distribution and a NaN logit show in the loss") {
  Batch batch(2, 40, 1.0f);
  for (int64_t v = 0; v < 40; ++v) batch.matrix()(0, v) = -kInfinity;
  batch.matrix()(1, 17) = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> losses = losses_and_gradient(batch, 16, false, 1.0f);
  CHECK(std::isnan(losses[0]));
  CHECK(std::isnan(losses[1]));
}

TEST_CASE("a target that no chunk has held costs infinity") {
  Batch batch(1, 40, 1.0f);
  batch.targets[0] = 40;
  CHECK(losses_and_gradient(batch, 16, false, 1.0f)[0] == kInfinity);
}

TEST_CASE("the gradient adds the bias where it is given") {
  Batch batch(3, 50, 1.0f);
  Batch with_bias = batch;
  losses_and_gradient(batch, 50, true, 1.0f);
  const Exec exec = test::cpu_exec();
  State state(3);
  online_softmax_begin(exec, state.view(), 3);
  Batch summed = with_bias;
  online_softmax_update(exec, summed.matrix(), summed.bias.data(), 0, summed.targets.data(),
                        state.view());
  softmax_cross_entropy_gradient(exec, with_bias.matrix(), with_bias.bias.data(), 0,
                                 with_bias.targets.data(), state.view(), 1.0f);
  for (size_t i = 0; i < batch.logits.size(); ++i) {
    CHECK(with_bias.logits[i] == doctest::Approx(batch.logits[i]).epsilon(1e-6));
  }
}

TEST_CASE("softmax pieces accept nothing at all") {
  const Exec exec = test::cpu_exec();
  Batch batch(3, 5, 1.0f);
  State state(3);
  online_softmax_begin(exec, state.view(), 3);
  online_softmax_update(exec, batch.matrix().columns(0, 0), nullptr, 0, batch.targets.data(),
                        state.view());
  CHECK(state.max == std::vector<float>(3, -kInfinity));
  CHECK(state.sum == std::vector<float>(3, 0.0f));
  online_softmax_begin(exec, {}, 0);
  online_softmax_update(exec, {}, nullptr, 0, nullptr, {});
  online_softmax_losses(exec, {}, nullptr, 0, nullptr);
  softmax_cross_entropy_gradient(exec, {}, nullptr, 0, nullptr, {}, 1.0f);
}

TEST_CASE("softmax is the same under the serial and the TBB policy, and for any thread count") {
  const Batch batch(37, 4100, 2.0f);
  const auto run = [&](const auto& policy) {
    Batch copy = batch;
    State state(copy.tokens);
    impl::online_softmax_begin(policy, state.view(), copy.tokens);
    impl::online_softmax_update(policy, copy.matrix(), copy.bias.data(), 0, copy.targets.data(),
                                state.view());
    impl::softmax_cross_entropy_gradient(policy, copy.matrix(), static_cast<const float*>(nullptr),
                                         0, copy.targets.data(), state.view(), 0.5f);
    return copy.logits;
  };
  CHECK(run(SerialPolicy{}) == run(TbbPolicy{}));

  const auto run_with_threads = [&](size_t threads) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    Batch copy = batch;
    std::vector<float> result = losses_and_gradient(copy, 1000, true, 0.5f);
    result.insert(result.end(), copy.logits.begin(), copy.logits.end());
    return result;
  };
  CHECK(run_with_threads(1) == run_with_threads(2));
}

TEST_CASE("softmax by lanes, as on a GPU, is that of the CPU") {
  for (const int64_t vocab : {1, 7, 33, 2048, 2049, 5000}) {
    for (const bool with_bias : {false, true}) {
      Batch batch(3, vocab, 4.0f), copy = batch;
      batch.logits[0] = copy.logits[0] = -kInfinity;
      State state(3), by_lanes(3);
      const float* const bias = with_bias ? batch.bias.data() : nullptr;
      const Exec exec = test::cpu_exec();
      for (State* s : {&state, &by_lanes}) online_softmax_begin(exec, s->view(), 3);
      // The second chunk meets a state that is not empty.
      for (int chunk = 0; chunk < 2; ++chunk) {
        const int64_t begin = chunk * vocab;
        online_softmax_update(exec, batch.matrix(), bias, begin, batch.targets.data(),
                              state.view());
        online_softmax_update_by_lanes(test::EmulatedPolicy{{}, 3}, exec, copy.matrix(), bias,
                                       begin, copy.targets.data(), by_lanes.view());
      }
      CHECK(copy.logits == batch.logits);
      CHECK(by_lanes.max == state.max);
      CHECK(by_lanes.target_logit == state.target_logit);
      for (size_t t = 0; t < 3; ++t) {
        CHECK(by_lanes.sum[t] == doctest::Approx(state.sum[t]).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("softmax by lanes keeps what is not a number") {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    Batch batch(1, 70, 1.0f);
    batch.logits[40] = value;
    State state(1);
    online_softmax_begin(test::cpu_exec(), state.view(), 1);
    online_softmax_update_by_lanes(test::EmulatedPolicy{}, test::cpu_exec(), batch.matrix(),
                                   nullptr, 0, batch.targets.data(), state.view());
    CHECK(std::isnan(state.sum[0]));
  }
}

TEST_CASE("softmax pieces refuse missing arrays") {
  const Exec exec = test::cpu_exec();
  Batch batch(3, 5, 1.0f);
  State state(3);
  OnlineSoftmax no_sum = state.view();
  no_sum.sum = nullptr;
  CHECK_THROWS_AS(online_softmax_begin(exec, no_sum, 3), InvalidArgument);
  CHECK_THROWS_AS(online_softmax_update(exec, batch.matrix(), nullptr, 0, nullptr, state.view()),
                  InvalidArgument);
  CHECK_THROWS_AS(
      online_softmax_update(exec, batch.matrix(), nullptr, -1, batch.targets.data(), state.view()),
      InvalidArgument);
  CHECK_THROWS_AS(online_softmax_losses(exec, state.view(), batch.targets.data(), 3, nullptr),
                  InvalidArgument);
  CHECK_THROWS_AS(softmax_cross_entropy_gradient(exec, {nullptr, 3, 5, 5}, nullptr, 0,
                                                 batch.targets.data(), state.view(), 1.0f),
                  InvalidArgument);
}

TEST_CASE("softmax over candidates: the target counts once, with a weight of its own") {
  constexpr float kScale = 0.5f;
  for (const int64_t candidates : {1, 7, 33, 4100}) {
    CAPTURE(candidates);
    Batch batch(9, candidates, 3.0f);
    batch.targets[2] = kIgnoredTarget;
    const Batch before = batch;
    std::vector<float> masked = batch.bias, offsets(9);
    std::mt19937 random(4);
    for (float& bias : masked) bias = random() % 3 == 0 ? -kInfinity : bias - 0.5f;
    for (float& offset : offsets) offset = static_cast<float>(random() % 100) * -0.05f;
    const Exec exec = test::cpu_exec();
    State state(9);
    online_softmax_begin(exec, state.view(), 9);
    const int32_t* const places = batch.targets.data();
    take_target_logits(exec, batch.matrix(), batch.bias.data(), places, offsets.data(),
                       state.view());
    online_softmax_update(exec, batch.matrix(), masked.data(), candidates, places, state.view());
    add_target_logits(exec, places, 9, state.view());
    std::vector<float> losses(9);
    online_softmax_losses(exec, state.view(), places, 9, losses.data());
    softmax_cross_entropy_gradient(exec, batch.matrix(), nullptr, candidates, places, state.view(),
                                   kScale);
    put_target_gradients(exec, batch.matrix(), places, state.view(), kScale);

    for (int64_t t = 0; t < 9; ++t) {
      CAPTURE(t);
      const int32_t place = batch.targets[static_cast<size_t>(t)];
      // exp of every logit that counts, and of the target's own.
      std::vector<double> terms;
      double total = 0;
      for (int64_t c = 0; c < candidates; ++c) {
        const auto at = static_cast<size_t>(c);
        const double logit = before.logits[static_cast<size_t>(t * candidates + c)];
        const double bias = c == place ? double{batch.bias[at]} - offsets[static_cast<size_t>(t)]
                                       : double{masked[at]};
        terms.push_back(std::exp(logit + bias));
        total += terms.back();
      }
      const bool ignored = place == kIgnoredTarget;
      const double loss = ignored ? 0 : -std::log(terms[static_cast<size_t>(place)] / total);
      CHECK(losses[static_cast<size_t>(t)] == doctest::Approx(loss).epsilon(1e-5));
      int64_t wrong = 0;
      for (int64_t c = 0; c < candidates; ++c) {
        const double expected =
            ignored ? 0 : kScale * (terms[static_cast<size_t>(c)] / total - (c == place));
        wrong += !(std::fabs(batch.matrix()(t, c) - expected) <= 1e-5 * std::fabs(expected) + 1e-7);
      }
      CHECK(wrong == 0);
    }
  }
}
