#include "sketchgrad/layers/lsh_softmax.h"

#include <doctest/doctest.h>

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

LshSoftmaxOptions small_options() {
  return {.softmax = {.input = kInput, .classes = kClasses, .init_range = 0.5f},
          .index = {.bits = 4, .tables = 3, .bucket_limit = kClasses},
          .active = kClasses,
          .tail_samples = 0,
          .rebuild_every = 5};
}

struct Fixture {
  Rng rng{5};
  LshSoftmax layer;
  explicit Fixture(const LshSoftmaxOptions& options)
      : layer("softmax", options, rng, nullptr, test::kTestDevice) {
    test::fill_normal(layer.bias()->value, 8);
  }
};

Tensor some_targets() {
  return Tensor::from<int32_t>({3, 59, 0, kernels::kIgnoredTarget, 3, 17}, {6}, test::kTestData);
}

double logit(LshSoftmax& layer, const std::vector<float>& x, size_t t, size_t v) {
  const auto weight = layer.weight().value.to_vector<float>();
  double sum = layer.bias()->value.to_vector<float>()[v];
  for (size_t k = 0; k < kInput; ++k) {
    sum += double{x[t * kInput + k]} * double{weight[v * kInput + k]};
  }
  return sum;
}

TEST_CASE("lsh softmax: the loss over the rows that the index finds, and the targets") {
  for (const int64_t active : {int64_t{5}, kClasses}) {
    CAPTURE(active);
    LshSoftmaxOptions options = small_options();
    options.active = active;
    Fixture fixture(options);
    Parameter x("x", {6, kInput}, test::kTestDevice);
    test::fill_normal(x.value, 3);
    const Tensor targets = some_targets();
    // The same index, by hand.
    Rng copy = fixture.rng;
    LshIndex index("index", kClasses, kInput, options.index, test::kTestDevice);
    index.rebuild(fixture.layer.weight().value, copy.next());
    const LshIndex::Hits hits = index.find(index.codes(x.value));
    std::vector<std::pair<int32_t, int32_t>> by_hits;
    for (size_t i = 0; i < hits.rows.size(); ++i) {
      by_hits.emplace_back(-hits.counts[i], hits.rows[i]);
    }
    std::sort(by_hits.begin(), by_hits.end());
    by_hits.resize(std::min(by_hits.size(), static_cast<size_t>(active)));
    std::set<int32_t> negatives;
    for (const auto& [count, row] : by_hits) negatives.insert(row);
    REQUIRE(negatives.size() < kClasses);

    Tape tape;
    const Variable loss = fixture.layer.loss(tape, tape.leaf(x), targets);
    const auto features = x.value.to_vector<float>();
    const auto target = targets.to_vector<int32_t>();
    double expected = 0;
    for (size_t t = 0; t < target.size(); ++t) {
      if (target[t] < 0) continue;
      std::set<int32_t> own = negatives;
      own.insert(target[t]);
      double total = 0;
      for (const int32_t v : own) {
        total += std::exp(logit(fixture.layer, features, t, static_cast<size_t>(v)));
      }
      expected +=
          (std::log(total) - logit(fixture.layer, features, t, static_cast<size_t>(target[t]))) / 5;
    }
    CHECK(loss.value.item() == doctest::Approx(expected).epsilon(1e-5));
    tape.backward(loss);
    std::set<int32_t> rows = negatives;
    for (const int32_t y : target) {
      if (y >= 0) rows.insert(y);
    }
    CHECK(fixture.layer.weight().gradient.rows().ids.to_vector<int32_t>() ==
          std::vector<int32_t>(rows.begin(), rows.end()));
    const auto statistics = fixture.layer.statistics();
    CHECK(statistics[0] == std::pair<std::string, double>("lsh_active", rows.size()));
    CHECK(statistics[1] == std::pair<std::string, double>("lsh_found", hits.rows.size()));
  }
}

TEST_CASE("lsh softmax: an index that finds all rows gives the full softmax's loss and gradients") {
  LshSoftmaxOptions options = small_options();
  options.index = {.bits = 1, .tables = 40, .bucket_limit = kClasses};
  Fixture fixture(options);
  Parameter x("x", {6, kInput}, test::kTestDevice);
  test::fill_normal(x.value, 3);
  const auto step = [&] {
    Tape tape;
    const Variable loss = fixture.layer.loss(tape, tape.leaf(x), some_targets());
    tape.backward(loss);
    std::vector<float> all = test::full_gradient(x);
    for (Parameter* parameter : fixture.layer.parameters()) {
      const std::vector<float> more = test::full_gradient(*parameter);
      all.insert(all.end(), more.begin(), more.end());
      parameter->gradient.clear();
    }
    x.gradient.clear();
    all.push_back(loss.value.item());
    return all;
  };
  const std::vector<float> found = step();
  CHECK(fixture.layer.statistics()[1].second == kClasses);
  for (int i = 1; i < 250; ++i) {
    Tape tape(false);
    fixture.layer.loss(tape, Tape::constant(x.value), some_targets());
  }
  CHECK(fixture.layer.statistics().back() ==
        std::pair<std::string, double>("lsh_recall_at_10", 1.0));
  fixture.layer.set_training(false);
  CHECK(test::worst_difference(found, step()) < test::tolerance(2e-6));
}

TEST_CASE("lsh softmax: gradients agree with finite differences") {
  LshSoftmaxOptions options = small_options();
  // Whatever is probed, the same rows are found: all.
  options.index = {.bits = 1, .tables = 40, .bucket_limit = kClasses};
  options.recall_every = 0;
  Fixture fixture(options);
  Parameter x("x", {6, kInput}, test::kTestDevice);
  test::fill_normal(x.value, 3);
  std::vector<Parameter*> parameters = fixture.layer.parameters();
  parameters.push_back(&x);
  const GradCheckResult result =
      grad_check([&](Tape& tape) { return fixture.layer.loss(tape, tape.leaf(x), some_targets()); },
                 parameters, {.max_elements = test::kTestDevice == kCpu ? 200 : 30});
  CHECK_MESSAGE(result.passed, result.where);
}

TEST_CASE("lsh softmax: with a sample of the tail the sum over the candidates is unbiased") {
  LshSoftmaxOptions options = small_options();
  options.active = 10;
  options.tail_samples = 15;
  options.recall_every = 0;
  options.rebuild_every = 1 << 30;
  Fixture fixture(options);
  const Tensor x = test::random_normal({1, kInput}, 4);
  const Tensor targets = Tensor::from<int32_t>({17}, {1}, test::kTestData);
  const double target_logit = logit(fixture.layer, x.to_vector<float>(), 0, 17);
  const auto sum = [&] {
    Tape tape(false);
    const Variable loss = fixture.layer.loss(tape, Tape::constant(x), targets);
    return std::exp(loss.value.item() + target_logit);
  };
  fixture.layer.set_training(false);
  const double exact = sum();
  fixture.layer.set_training(true);
  const int repeats = test::kTestDevice == kCpu ? 3000 : 300;
  const auto [mean, error] = test::estimate(repeats, sum);
  CHECK(std::abs(mean - exact) < 4 * error + 1e-4 * exact);
  CHECK(error < 0.05 * exact);
}

TEST_CASE("lsh softmax: with the correction the sum over the negatives is unbiased") {
  for (const int64_t active : {int64_t{10}, kClasses}) {
    for (const int64_t tokens : {1, 3}) {
      CAPTURE(active);
      CAPTURE(tokens);
      LshSoftmaxOptions options = small_options();
      options.index = {.bits = 2, .tables = 2, .bucket_limit = kClasses};
      options.importance = true;
      options.active = active;
      options.rebuild_every = 1;
      options.recall_every = 0;
      Fixture fixture(options);
      const Tensor x = test::random_normal({tokens, kInput}, 4);
      // Only the first token has a target; the others' buckets are searched all the same.
      std::vector<int32_t> ids(static_cast<size_t>(tokens), kernels::kIgnoredTarget);
      ids[0] = 17;
      const Tensor targets = Tensor::from(ids, {tokens}, test::kTestData);
      const double target_logit = logit(fixture.layer, x.to_vector<float>(), 0, 17);
      const auto sum = [&] {
        Tape tape(false);
        const Variable loss = fixture.layer.loss(tape, Tape::constant(x), targets);
        return std::exp(loss.value.item() + target_logit);
      };
      fixture.layer.set_training(false);
      const double exact = sum();
      fixture.layer.set_training(true);
      const int repeats = test::kTestDevice == kCpu ? 3000 : 300;
      const auto [mean, error] = test::estimate(repeats, sum);
      CHECK(std::abs(mean - exact) < 4 * error + 1e-4 * exact);
      CHECK(error < 0.1 * exact);
    }
  }
}

TEST_CASE("lsh softmax: the index is rebuilt when due, and between them as asked") {
  for (const bool incremental : {false, true}) {
    CAPTURE(incremental);
    LshSoftmaxOptions options = small_options();
    options.incremental = incremental;
    Fixture fixture(options);
    Parameter x("x", {6, kInput}, test::kTestDevice);
    test::fill_normal(x.value, 3);
    Rng copy = fixture.rng;
    LshIndex index("index", kClasses, kInput, options.index, test::kTestDevice);
    std::vector<int32_t> last;
    for (int step = 0; step < 12; ++step) {
      CAPTURE(step);
      if (step % 5 == 0) {
        index.rebuild(fixture.layer.weight().value, copy.next());
      } else if (incremental) {
        index.update(fixture.layer.weight().value,
                     Tensor::from(last, {static_cast<int64_t>(last.size())}, test::kTestData));
      }
      std::set<int32_t> rows = {3, 59, 0, 17};
      for (const int32_t row : index.find(index.codes(x.value)).rows) rows.insert(row);
      Tape tape;
      tape.backward(fixture.layer.loss(tape, tape.leaf(x), some_targets()));
      last = fixture.layer.weight().gradient.rows().ids.to_vector<int32_t>();
      CHECK(last == std::vector<int32_t>(rows.begin(), rows.end()));
      // All rows move, not only those of the step.
      test::fill_normal(fixture.layer.weight().value, 20 + static_cast<uint64_t>(step));
      for (Parameter* parameter : fixture.layer.parameters()) parameter->gradient.clear();
      x.gradient.clear();
    }
  }
}

TEST_CASE("lsh softmax: a loaded layer goes on as the one that was saved") {
  for (const bool incremental : {false, true}) {
    LshSoftmaxOptions options = small_options();
    options.incremental = incremental;
    options.index.bucket_limit = 6;
    Fixture first(options), second(options);
    const Tensor x = test::random_normal({6, kInput}, 4);
    const auto loss = [&](Fixture& fixture) {
      Tape tape(false);
      const float value = fixture.layer.loss(tape, Tape::constant(x), some_targets()).value.item();
      test::fill_normal(fixture.layer.weight().value.rows(0, 20), fixture.rng.offset());
      return value;
    };
    for (int i = 0; i < 7; ++i) loss(first);
    StateDict state;
    first.layer.save_state(state);
    second.layer.load_state(state);
    second.rng = first.rng;
    second.layer.weight().value.copy_from(first.layer.weight().value);
    for (int i = 0; i < 7; ++i) CHECK(loss(first) == loss(second));
  }
}

TEST_CASE("lsh softmax: a step that is taken back and done again comes out the same") {
  for (const int failing : {3, 5}) {  // an update, a rebuild
    LshSoftmaxOptions options = small_options();
    options.incremental = true;
    options.index.bucket_limit = 6;
    Fixture whole(options), interrupted(options);
    const Tensor x = test::random_normal({6, kInput}, 4);
    const auto loss = [&](Fixture& fixture) {
      Tape tape(false);
      return fixture.layer.loss(tape, Tape::constant(x), some_targets()).value.item();
    };
    const auto move_rows = [](Fixture& fixture, int step) {
      test::fill_normal(fixture.layer.weight().value.rows(0, 20), static_cast<uint64_t>(step));
    };
    for (int step = 0; step < 12; ++step) {
      if (step == failing) {
        const Rng before = interrupted.rng;
        interrupted.layer.keep_state();
        loss(interrupted);
        interrupted.layer.restore_state();
        interrupted.rng = before;
      }
      CHECK(loss(whole) == loss(interrupted));
      move_rows(whole, step);
      move_rows(interrupted, step);
    }
  }
}

TEST_CASE("lsh softmax: no float of a step is of the size of the table") {
  constexpr int64_t kMany = 50000, kDim = 16, kTokens = 20;
  Rng rng(2);
  LshSoftmax layer("softmax",
                   {.softmax = {.input = kDim, .classes = kMany},
                    .index = {.bits = 10, .tables = 4},
                    .active = 100,
                    .tail_samples = 0,
                    .recall_every = 0},
                   rng, nullptr, test::kTestDevice);
  Parameter x("x", {kTokens, kDim}, test::kTestDevice);
  test::fill_normal(x.value, 5);
  const Tensor targets = test::random_ids({kTokens}, kMany, 6);
  const auto step = [&] {
    Tape tape;
    tape.backward(layer.loss(tape, tape.leaf(x), targets));
    const int64_t rows = layer.weight().gradient.rows().count();
    for (Parameter* parameter : layer.parameters()) parameter->gradient.clear();
    x.gradient.clear();
    return rows;
  };
  step();  // builds the index
  allocator(test::kTestDevice).reset_peak();
  const MemoryFigures before = allocator(test::kTestDevice).current();
  const int64_t rows = step();
  const MemoryFigures peak = allocator(test::kTestDevice).peak();
  CHECK(rows <= 100 + kTokens);
  CHECK(peak[Category::gradient] - before[Category::gradient] ==
        4 * (rows * kDim + rows + kTokens * kDim + 1));
  // A count of hits for each class, and little else.
  const int64_t index = test::kTestDevice == kCpu ? 4 * kMany + 20000 : 20000;
  CHECK(peak[Category::index] - before[Category::index] < index);
}

TEST_CASE("lsh softmax: a tied table learns through sketches, by few of its rows") {
  Rng rng(3);
  Embedding embedding("embedding", {.rows = 2000, .dim = 12}, rng, test::kTestDevice);
  LshSoftmaxOptions options{.softmax = {.input = 12, .classes = 2000},
                            .index = {.bits = 6, .tables = 4},
                            .active = 100,
                            .tail_samples = 50,
                            .rebuild_every = 10,
                            .incremental = true};
  LshSoftmax layer("softmax", options, rng, &embedding.weight(), test::kTestDevice);
  Optimizer optimizer(Adam{.learning_rate = 0.03f});
  optimizer.add(embedding.weight(), {CountSketch{0.2}, CountMin{0.2}});
  optimizer.add(*layer.bias(), {CountSketch{0.2}, CountMin{0.2}});
  const Tensor ids = test::random_ids({30}, 2000, 7), targets = test::random_ids({30}, 2000, 8);
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
    std::vector<int32_t> rows = embedding.weight().gradient.rows().ids.to_vector<int32_t>();
    std::erase(rows, -1);  // padding, on CUDA
    CHECK(rows.size() <= 30 + 30 + 100 + 100);
    optimizer.step();
    optimizer.clear_gradients();
  }
  CHECK(full_loss() < 0.8f * first);
}

TEST_CASE("lsh softmax: no tokens, every target ignored, and options that do not fit") {
  Fixture fixture(small_options());
  for (const int64_t tokens : {0, 3}) {
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
  const auto refused = [](const LshSoftmaxOptions& options) {
    return test::refusal([&] {
      Rng rng(1);
      LshSoftmax("softmax", options, rng, nullptr, test::kTestDevice);
    });
  };
  LshSoftmaxOptions options = small_options();
  options.active = 0;
  CHECK(test::contains(refused(options), "0 active rows"));
  options = small_options();
  options.rebuild_every = 0;
  CHECK(test::contains(refused(options), "an index every 0 steps"));
  options = small_options();
  options.importance = true;
  options.index = {.hash = LshHash::dwta, .bits = 4, .tables = 3, .bin_bits = 2};
  CHECK(test::contains(refused(options), "known for simhash only"));
}

}  // namespace
}  // namespace sketchgrad
