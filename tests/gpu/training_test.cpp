#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "sketchgrad/layers/dropout.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/layers/full_softmax.h"
#include "sketchgrad/layers/lstm.h"
#include "sketchgrad/optim/adagrad.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/optim/clip.h"
#include "sketchgrad/optim/momentum.h"

// Whole training runs of a language model: the GPU's losses against the CPU's, and against its own.
namespace sketchgrad::test {
namespace {

constexpr int64_t kWords = 60;
constexpr int64_t kSteps = 5;
constexpr int64_t kBatch = 3;
constexpr int kUpdates = 25;

struct Case {
  std::string name;
  std::function<Optimizer()> make_optimizer;
  Moments tables;  // of embedding and output
  int64_t projection = 0;
  bool tie = false;
};

class Model : public Module {
 public:
  Model(const Case& one, Device device)
      : embedding_("embedding", {.rows = kWords, .dim = one.tie ? 9 : 12, .padding_id = 4}, rng_,
                   device),
        lstm_("lstm", {one.tie ? 9 : 12, 16, 2, one.projection, 0.2f}, rng_, device),
        dropout_(0.2f, rng_),
        output_("softmax", {.input = lstm_.output_dim(), .classes = kWords}, rng_,
                one.tie ? &embedding_.weight() : nullptr, device),
        state_(lstm_.zero_state(kBatch)) {
    add_child(embedding_);
    add_child(lstm_);
    add_child(dropout_);
    add_child(output_);
  }
  Variable loss(Tape& tape, const Tensor& inputs, const Tensor& targets) {
    const Variable x = dropout_.forward(tape, embedding_.forward(tape, inputs));
    return output_.loss(tape, dropout_.forward(tape, lstm_.forward(tape, x, state_)), targets);
  }
  bool is_table(const Parameter* parameter) {
    return parameter == &embedding_.weight() || parameter == &output_.weight();
  }

 private:
  Rng rng_{7};
  Embedding embedding_;
  Lstm lstm_;
  Dropout dropout_;
  FullSoftmax output_;
  LstmState state_;
};

// A word is mostly followed by the next one, so that there is something to learn.
std::vector<int32_t> text(std::mt19937& random, int64_t count) {
  std::vector<int32_t> ids{3};
  while (static_cast<int64_t>(ids.size()) < count) {
    const bool next = random() % 4 != 0;
    ids.push_back(next ? (ids.back() + 1) % static_cast<int32_t>(kWords)
                       : static_cast<int32_t>(random() % kWords));
  }
  return ids;
}

std::vector<float> train(const Case& one, Device device) {
  Model model(one, device);
  Optimizer optimizer = one.make_optimizer();
  model.set_training(true);
  for (Parameter* parameter : model.parameters()) {
    if (model.is_table(parameter)) {
      optimizer.add(*parameter, one.tables);
    } else {
      optimizer.add(*parameter);
    }
  }
  std::mt19937 random(11);
  std::vector<float> losses;
  for (int i = 0; i < kUpdates; ++i) {
    const int64_t count = kSteps * kBatch;
    const std::vector<int32_t> ids = text(random, count + kBatch);
    const Purpose purpose{Category::data, "text"};
    Tape tape;
    const Variable loss = model.loss(
        tape,
        Tensor::from(std::vector<int32_t>(ids.begin(), ids.end() - kBatch), {kSteps, kBatch},
                     purpose),
        Tensor::from(std::vector<int32_t>(ids.begin() + kBatch, ids.end()), {count}, purpose));
    losses.push_back(loss.value.item());
    tape.backward(loss);
    const Tensor norm = clip_global_norm_on_device(optimizer.parameters(), 1.0);
    losses.push_back(norm.item());
    optimizer.step();
    optimizer.clear_gradients();
  }
  return losses;
}

// Rounding grows along a run, and where a sketch decides between near equals, faster.
void compare(const Case& one, double tolerance) {
  CAPTURE(one.name);
  const std::vector<float> expected = train(one, kCpu);
  const std::vector<float> got = train(one, kCuda);
  REQUIRE(expected.size() == got.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(got[i] - expected[i]) <= tolerance * std::abs(expected[i]));
  }
  CHECK(got == train(one, kCuda));
  // It has learned something: the losses stand at the even places.
  CHECK(expected[expected.size() - 2] < expected[0]);
}

TEST_CASE("training with dense state") {
  compare({"adam", [] { return Optimizer(Adam{.learning_rate = 0.02f}); }, {}}, 2e-3);
  compare({"adam, projection", [] { return Optimizer(Adam{.learning_rate = 0.02f}); }, {}, 9},
          2e-3);
  compare({"adam, tied", [] { return Optimizer(Adam{.learning_rate = 0.02f}); }, {}, 9, true},
          2e-3);
}

TEST_CASE("training with rounded products") {
  for (const ProductPrecision precision : {ProductPrecision::tf32, ProductPrecision::bf16}) {
    set_product_precision(kCuda, precision);
    compare({"adam", [] { return Optimizer(Adam{.learning_rate = 0.02f}); }, {}}, 2e-2);
    set_product_precision(kCuda, ProductPrecision::fp32);
  }
}

TEST_CASE("training with sketches") {
  compare({"CS-MV",
           [] { return Optimizer(Adam{.learning_rate = 0.02f}); },
           {CountSketch{0.5}, CountMin{0.5}}},
          1e-2);
  compare({"CS-MV, tied and projected",
           [] { return Optimizer(Adam{.learning_rate = 0.02f}); },
           {CountSketch{0.5}, CountMin{0.5}},
           9,
           true},
          1e-2);
  compare(
      {"momentum", [] { return Optimizer(Momentum{.learning_rate = 0.3f}); }, {CountSketch{0.5}}},
      1e-2);
  compare({"adagrad",
           [] { return Optimizer(Adagrad{.learning_rate = 0.1f}); },
           {None{}, CountMin{.ratio = 0.5, .reading = Reading::linear}}},
          1e-2);
}

}  // namespace
}  // namespace sketchgrad::test
