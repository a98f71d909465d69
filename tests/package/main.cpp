// A program outside the project, against the installed headers and libraries: a bag-of-words
// classifier of its own, whose table of words steps with count-sketch Adam.
#include <cstdio>
#include <vector>

#include "sketchgrad/framework/ops.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/layers/full_softmax.h"
#include "sketchgrad/layers/linear.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/optim/clip.h"

using namespace sketchgrad;

namespace {

constexpr int64_t kWords = 1000;
constexpr int64_t kClasses = 10;

class WordClassifier : public Module {
 public:
  explicit WordClassifier(Rng& rng)
      : embedding("embedding", {.rows = kWords, .dim = 16}, rng),
        hidden("hidden", 16, 32, rng),
        output("output", {.input = 32, .classes = kClasses}, rng) {
    add_child(embedding);
    add_child(hidden);
    add_child(output);
  }

  Variable loss(Tape& tape, const Tensor& words, const Tensor& classes) {
    return output.loss(tape, relu(tape, hidden.forward(tape, embedding.forward(tape, words))),
                       classes);
  }

  Embedding embedding;
  Linear hidden;
  FullSoftmax output;
};

}  // namespace

int main() {
  Rng rng(1);
  WordClassifier model(rng);
  Optimizer optimizer(Adam{.learning_rate = 0.01f});
  for (Parameter* parameter : model.parameters()) {
    if (parameter == &model.embedding.weight()) {
      optimizer.add(*parameter, {CountSketch{.ratio = 0.2}, CountMin{.ratio = 0.2}});
    } else {
      optimizer.add(*parameter);
    }
  }

  // The class of a word is its id's last digit.
  std::vector<int32_t> words(256);
  std::vector<int32_t> classes(256);
  float first_loss = 0.0f;
  float loss = 0.0f;
  for (int step = 0; step < 200; ++step) {
    for (size_t i = 0; i < words.size(); ++i) {
      words[i] = static_cast<int32_t>((i * 37 + static_cast<size_t>(step) * 101) % kWords);
      classes[i] = words[i] % static_cast<int32_t>(kClasses);
    }
    const Tensor ids = Tensor::from(words, {256}, {Category::data, "words"});
    const Tensor targets = Tensor::from(classes, {256}, {Category::data, "classes"});
    Tape tape;
    const Variable batch_loss = model.loss(tape, ids, targets);
    loss = batch_loss.value.item();
    if (step == 0) first_loss = loss;
    tape.backward(batch_loss);
    clip_global_norm(model.parameters(), 1.0);
    optimizer.step();
    optimizer.clear_gradients();
  }
  int64_t table_state = 0;
  for (const StateBytes& state : optimizer.state_bytes()) {
    if (state.name.rfind("embedding.", 0) == 0) table_state += state.bytes;
  }
  std::printf("loss %.3f -> %.3f; state of the table: %lld of %lld bytes\n", first_loss, loss,
              static_cast<long long>(table_state), static_cast<long long>(2 * kWords * 16 * 4));
  return loss < 0.2f * first_loss && table_state * 5 <= 2 * kWords * 16 * 4 ? 0 : 1;
}
