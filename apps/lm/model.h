#pragma once

#include <nlohmann/json.hpp>

#include <vector>

#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/layers/dropout.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/layers/full_softmax.h"
#include "sketchgrad/layers/lstm.h"

namespace sketchgrad::apps::lm {

struct LanguageModelOptions {
  int64_t vocabulary = 0;  // words
  int64_t embedding_dim = 200;
  int64_t hidden = 200;  // LSTM cells a layer
  int64_t layers = 2;
  int64_t projection = 0;        // 0: none
  double dropout = 0.2;          // of the embedding, between layers and of the output
  bool tie = false;              // embedding and output share one table
  double init_range = 0.4;       // of the output table, or of the one table where tied
  double embedding_range = 1.0;  // of the embedding where it has a table of its own
};

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LanguageModelOptions, vocabulary, embedding_dim, hidden, layers,
                                   projection, dropout, tie, init_range, embedding_range)

// Embedding, LSTM, full softmax; dropout between them (Zaremba et al. 2014).
class LanguageModel : public Module {
 public:
  // `seed`: of initial values and dropout masks. Throws InvalidArgument for sizes that do not fit.
  LanguageModel(const LanguageModelOptions& options, uint64_t seed, Device device = kCpu);

  LstmState zero_state(int64_t batch) const { return lstm_.zero_state(batch); }
  // Mean of -log p over the targets. inputs and targets int32 [steps, batch]; `state` is replaced
  // by the one after the last step.
  Variable loss(Tape& tape, const Tensor& inputs, const Tensor& targets, LstmState& state);
  // The k most likely words after each column of inputs [steps, batch], k <= vocabulary.
  TopK next_words(const Tensor& inputs, LstmState& state, int64_t k);

  const LanguageModelOptions& options() const { return options_; }
  Parameter& embedding_table() { return embedding_.weight(); }
  Parameter& output_table() { return output_.weight(); }  // the embedding's if they are tied

  // Where the mask generator stands.
  Rng rng() const { return rng_; }
  void set_rng(Rng rng) { rng_ = rng; }
  void save_rng(StateDict& state) const;
  void load_rng(const StateDict& state);

 private:
  // [steps, batch, output_dim]
  Variable features(Tape& tape, const Tensor& inputs, LstmState& state);

  LanguageModelOptions options_;
  Rng rng_;
  Embedding embedding_;
  Lstm lstm_;
  Dropout dropout_;
  FullSoftmax output_;
};

}  // namespace sketchgrad::apps::lm
