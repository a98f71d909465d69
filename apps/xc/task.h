#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <utility>

#include "sketchgrad/apps/common/trainer.h"
#include "sketchgrad/apps/xc/examples.h"
#include "sketchgrad/apps/xc/model.h"

namespace sketchgrad::apps::xc {

// A batch as a model takes it. Labels of classes that the training set lacks are left out.
SparseRows features_of(const Batch& batch);
SparseRows known_labels_of(const Batch& batch);

// What draws the order of the rows in an epoch, of which the first is 1.
kernels::PhiloxKey order_key(uint64_t seed, int64_t epoch);

// Extreme classification for the Trainer. Everything given must outlive it.
class ClassificationTask final : public TrainingTask {
 public:
  struct Options {
    int64_t batch = 256;         // rows of a step
    int64_t eval_batch = 256;    // of a validation
    int64_t valid_limit = 0;     // rows of a validation; 0: all
    double feature_dropout = 0;  // probability that a step leaves a feature of a row out
    uint64_t seed = 1;           // of the order of rows, and of what is left out
  };
  // `identity`: what a run that goes on from a checkpoint must share with this one.
  ClassificationTask(Classifier& model, const Examples& train, const Examples& valid,
                     const Options& options, nlohmann::json identity);

  Module& model() override { return model_; }
  int64_t steps_per_epoch() const override;
  int64_t fetch(int64_t step_of_epoch) override;
  Variable loss(Tape& tape) override;
  std::optional<double> validate() override;
  std::string describe(double loss) const override;
  nlohmann::json metrics(double loss) const override;
  void save(StateDict& state) const override;
  // Throws InvalidArgument naming what differs where the checkpoint is of another run.
  void load(const StateDict& state) override;
  void keep_state() override;
  void restore_state() override;
  // The mean over repetitions of a loss that is their sum; what people are told.
  double one_loss(double loss) const;

 private:
  // What a step changes besides the model's parameters.
  struct StepState {
    Rng rng;
    int64_t epoch = 0;
  };
  Classifier& model_;
  const Examples& train_;
  const Examples& valid_;
  Options options_;
  nlohmann::json identity_;
  int64_t epoch_ = 0;  // that have begun
  StepState kept_;
  SparseRows features_;
  SparseRows labels_;
};

// Mean loss over rows [0, limit) of the examples, as Classifier::loss has it; none where
// StopSignal::requested() ended it early. The model is left in evaluation mode.
std::optional<double> mean_loss(Classifier& model, const Examples& examples, int64_t limit,
                                int64_t batch);

// What a checkpoint holds for those who only use the model.
struct TrainedClassifier {
  // Throws DataError where the checkpoint is none of this application, and where it was trained on
  // other classes or inputs than those of `examples`.
  // Parameters are read one after the other: beside the model there is room for the largest.
  TrainedClassifier(const std::string& checkpoint, const Examples& examples, Device device = kCpu);
  Classifier model;
};

// The model's options in a checkpoint. Throws DataError where it has none.
ClassifierOptions saved_options(const StateDict& state);
void save_options(const ClassifierOptions& options, uint64_t classes_checksum, StateDict& state);
uint64_t saved_classes_checksum(const StateDict& state);
// What ClassificationTask was given as identity; an empty object where there is none: a joined
// model.
nlohmann::json saved_identity(const StateDict& state);
// Of flags for one that is to be read.
inline constexpr const char* kModelHelp =
    "a checkpoint, or a folder, whose latest.safetensors, or where there is none "
    "model.safetensors, is taken; name its best.safetensors for the best one";
// The file that a checkpoint's path means: itself, or of a folder the latest checkpoint or, where
// repetitions were trained one by one, their joined model.
std::string model_file(const std::string& path);
// All files that it may mean.
std::vector<std::string> model_files(const std::string& path);
std::string joined_model(const std::string& folder);
// A checkpoint without its optimizer's state, of which only training has use.
StateDict load_model(const std::string& checkpoint);

}  // namespace sketchgrad::apps::xc
