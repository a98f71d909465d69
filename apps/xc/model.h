#pragma once

#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/softmax.h"
#include "sketchgrad/layers/embedding_bag.h"
#include "sketchgrad/layers/mach.h"
#include "sketchgrad/layers/mach_index.h"
#include "sketchgrad/layers/output_layer.h"

namespace sketchgrad::apps::xc {

struct ClassifierOptions {
  int64_t features = 0;  // of the input
  int64_t classes = 0;
  int64_t hidden = 1024;
  double input_range = 0.1;    // the hidden layers' tables start uniform in [-range, range]
  std::string model = "mach";  // mach, full, sampled, lsh
  // Of mach:
  int64_t buckets = 20000;
  std::vector<int32_t> repetitions = {0};  // their numbers
  bool shared_hidden = false;              // one hidden layer for all of them, or one for each
  std::string meta_loss = "softmax";       // or sigmoid
  bool stored_map = true;
  uint64_t seed = 1;  // of hash functions, initial values and samples
  // Of the others; its `softmax` follows from `model`.
  SoftmaxOptions softmax = {};

  bool is_mach() const { return model == "mach"; }
  // Hidden layers that do not share anything.
  int64_t networks() const {
    return is_mach() && !shared_hidden ? static_cast<int64_t>(repetitions.size()) : 1;
  }
};

// Flat: the softmax's options stand beside the others.
void to_json(nlohmann::json& json, const ClassifierOptions& options);
void from_json(const nlohmann::json& json, ClassifierOptions& options);

// How classes are ranked where the model is MACH.
struct Ranking {
  MachAggregation aggregation = MachAggregation::mean;
  bool logarithms = false;  // of the probabilities: the mean is then a geometric one
  // Only classes in so many of the best buckets of a repetition are scored; 0: all classes are.
  int64_t best_buckets = 0;
  // Whether rows whose answer from the best buckets is not proven to be that of all classes are
  // ranked again, over all.
  bool proven = false;
};

// What a model says of some rows.
class Prediction;

// A bag of features, a hidden layer with relu, and an output layer over classes: a softmax, or
// MACH's meta-classifiers (layers/mach.h).
class Classifier : public Module {
 public:
  // `counts`: rows in which each class is a label, where the softmax asks for them. Throws
  // InvalidArgument for sizes that do not fit.
  explicit Classifier(const ClassifierOptions& options, Device device = kCpu,
                      std::vector<int64_t> counts = {});

  // x [rows, features]; labels [rows, classes]. For MACH the sum over repetitions of their losses
  // (layers/mach.h), for a softmax the mean of -log p of one label of each row that has any: any of
  // them in training, the first in evaluation.
  Variable loss(Tape& tape, const SparseRows& x, const SparseRows& labels);
  // Of how many rows the loss is a mean: for sigmoids all, otherwise those that have labels.
  int64_t rows_of_mean(const SparseRows& labels) const;
  Prediction predict(const SparseRows& x, const Ranking& ranking = {});
  // Builds now what the first answer by this ranking would build: the index of the best buckets.
  void prepare(const Ranking& ranking);

  const ClassifierOptions& options() const { return options_; }
  // The weights of the hidden layers, and of the output.
  std::vector<Parameter*> input_tables();
  std::vector<Parameter*> output_tables();

  // Where the generator of samples and choices stands.
  Rng rng() const { return rng_; }
  void set_rng(Rng rng) { rng_ = rng; }
  // Of a softmax (layers/output_layer.h); MACH has none.
  std::vector<std::pair<std::string, double>> statistics() const;
  void keep_output();
  void restore_output();
  void save_state(StateDict& state) const;
  void load_state(const StateDict& state);

 private:
  friend class Prediction;
  // [rows, hidden] of each network.
  std::vector<Variable> features(Tape& tape, const SparseRows& x);
  Tensor one_label_each(const SparseRows& labels);
  const MachIndex& index();

  ClassifierOptions options_;
  Rng rng_;
  std::vector<std::unique_ptr<EmbeddingBag>> bags_;
  std::unique_ptr<Mach> mach_;  // or
  std::unique_ptr<OutputLayer> softmax_;
  std::unique_ptr<MachIndex> index_;  // once it is asked for
};

class Prediction {
 public:
  // The best classes of each row, on the CPU. Scores are the aggregated probabilities of buckets,
  // or log-probabilities. An id of -1: fewer were found.
  TopK top_k(int64_t k) const;
  // Of given classes, by MACH alone: ids int32 [rows, n] on the CPU, -1 for none; float32 [rows, n]
  // on the CPU.
  Tensor scores(const Tensor& ids) const;

 private:
  friend class Classifier;
  Prediction(Classifier& classifier, const Ranking& ranking)
      : classifier_(classifier), ranking_(ranking) {}
  Classifier& classifier_;
  Ranking ranking_;
  std::vector<Tensor>
      meta_;       // of MACH: [rows, buckets] on the CPU for each repetition, or logarithms
  Tensor hidden_;  // of a softmax
};

}  // namespace sketchgrad::apps::xc
