#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/layers/dropout.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/layers/full_softmax.h"
#include "sketchgrad/layers/lstm.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {
namespace {

constexpr int64_t kVocabulary = 301;
constexpr int64_t kBatch = 9;
constexpr int64_t kSteps = 11;

class LanguageModel : public Module {
 public:
  LanguageModel() {
    add_child(embedding_);
    add_child(dropout_);
    add_child(lstm_);
    add_child(softmax_);
  }

  Variable loss(Tape& tape, const Tensor& ids, const Tensor& targets, LstmState& state) {
    const Variable x = dropout_.forward(tape, embedding_.forward(tape, ids));
    return softmax_.loss(tape, dropout_.forward(tape, lstm_.forward(tape, x, state)), targets);
  }
  LstmState zero_state() const { return lstm_.zero_state(kBatch); }

 private:
  Rng rng_{1};
  Embedding embedding_{"embedding", {.rows = kVocabulary, .dim = 24}, rng_, test::kTestDevice};
  Dropout dropout_{0.1f, rng_};
  Lstm lstm_{"lstm",
             {.input = 24, .hidden = 40, .layers = 2, .projection = 32, .dropout = 0.1f},
             rng_,
             test::kTestDevice};
  FullSoftmax softmax_{"softmax",
                       {.input = 32, .classes = kVocabulary, .chunk_bytes = 20000},
                       rng_,
                       nullptr,
                       test::kTestDevice};
};

void descend(Parameter& parameter, float learning_rate) {
  const Tensor gradient = Tensor::from(test::full_gradient(parameter), parameter.value.shape(),
                                       test::kTestData, test::kTestDevice);
  kernels::add_scaled(parameter.value.exec(), gradient.data<float>(), -learning_rate,
                      parameter.value.data<float>(), parameter.value.numel());
  parameter.gradient.clear();
}

struct Training {
  float first_loss = 0;
  float last_loss = 0;
  std::vector<float> parameters;
};

Training train(int iterations) {
  LanguageModel model;
  const Tensor ids = test::random_ids({kSteps, kBatch}, kVocabulary, 2);
  const Tensor targets = test::random_ids({kSteps * kBatch}, kVocabulary, 3);
  const int64_t activations_before = test::live_bytes(Category::activation);
  Training training;
  for (int i = 0; i < iterations; ++i) {
    LstmState state = model.zero_state();
    {
      Tape tape;
      const Variable loss = model.loss(tape, ids, targets, state);
      training.last_loss = loss.value.item();
      if (i == 0) training.first_loss = training.last_loss;
      tape.backward(loss);
    }
    CHECK(test::live_bytes(Category::activation) == activations_before);
    CHECK(test::live_bytes(Category::workspace) == 0);
    for (Parameter* parameter : model.parameters()) {
      CHECK(!parameter->gradient.empty());
      descend(*parameter, 2.0f);
    }
  }
  for (Parameter* parameter : model.parameters()) {
    const std::vector<float> values = parameter->value.to_vector<float>();
    training.parameters.insert(training.parameters.end(), values.begin(), values.end());
  }
  return training;
}

}  // namespace

TEST_CASE("layers together: the loss goes down and activations go away after each step") {
  const Training training = train(40);
  CHECK(training.first_loss == doctest::Approx(std::log(kVocabulary)).epsilon(0.02));
  CHECK(training.last_loss < 0.95f * training.first_loss);
}

TEST_CASE("layers together: the same bits for any number of threads") {
  const auto train_with = [](size_t threads) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    return train(3).parameters;
  };
  const std::vector<float> one = train_with(1);
  CHECK(train_with(2) == one);
  CHECK(train_with(4) == one);
}

}  // namespace sketchgrad
