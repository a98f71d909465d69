#pragma once

#include <nlohmann/json.hpp>

#include <vector>

#include "sketchgrad/apps/common/softmax.h"
#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/layers/dropout.h"
#include "sketchgrad/layers/embedding.h"
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
  SoftmaxOptions softmax = {};
  int64_t output_dim() const { return projection > 0 ? projection : hidden; }  // of the LSTM
};

// Flat: the softmax's options stand beside the others.
void to_json(nlohmann::json& json, const LanguageModelOptions& options);
void from_json(const nlohmann::json& json, LanguageModelOptions& options);

// Embedding, LSTM, a softmax; dropout between them (Zaremba et al. 2014).
class LanguageModel : public Module {
 public:
  // `seed`: of initial values and dropout masks. Throws InvalidArgument for sizes that do not fit.
  // `counts`: how often each word stands in the training text, where the softmax asks for it.
  LanguageModel(const LanguageModelOptions& options, uint64_t seed, Device device = kCpu,
                std::vector<int64_t> counts = {});

  LstmState zero_state(int64_t batch) const { return lstm_.zero_state(batch); }
  // Mean of -log p over the targets. inputs and targets int32 [steps, batch]; `state` is replaced
  // by the one after the last step.
  Variable loss(Tape& tape, const Tensor& inputs, const Tensor& targets, LstmState& state);
  // The k most likely words after each column of inputs [steps, batch], k <= vocabulary.
  TopK next_words(const Tensor& inputs, LstmState& state, int64_t k);

  const LanguageModelOptions& options() const { return options_; }
  Parameter& embedding_table() { return embedding_.weight(); }
  // The tables of the output; the embedding's if they are tied.
  std::vector<Parameter*> output_tables() { return output_->class_tables(); }

  // Where the mask generator stands.
  Rng rng() const { return rng_; }
  void set_rng(Rng rng) { rng_ = rng; }
  // Of the output layer (layers/output_layer.h).
  std::vector<std::pair<std::string, double>> statistics() const { return output_->statistics(); }
  void keep_output() { output_->keep_state(); }
  void restore_output() { output_->restore_state(); }
  void save_output(StateDict& state) const { output_->save_state(state); }
  void load_output(const StateDict& state) { output_->load_state(state); }
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
  std::unique_ptr<OutputLayer> output_;
};

}  // namespace sketchgrad::apps::lm
