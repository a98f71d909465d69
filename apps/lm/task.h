#pragma once

#include <string>

#include "sketchgrad/apps/common/batches.h"
#include "sketchgrad/apps/common/corpus.h"
#include "sketchgrad/apps/common/trainer.h"
#include "sketchgrad/apps/lm/model.h"

namespace sketchgrad::apps::lm {

// Language modelling for the Trainer. Everything given must outlive it.
class LanguageModelTask final : public TrainingTask {
 public:
  // `identity`: what a run that goes on from a checkpoint must share with this one, model options
  // included.
  LanguageModelTask(LanguageModel& model, const Vocabulary& vocabulary, ColumnBatches train,
                    ColumnBatches valid, nlohmann::json identity);

  Module& model() override { return model_; }
  int64_t steps_per_epoch() const override { return train_.segments(); }
  int64_t fetch(int64_t step_of_epoch) override;
  Variable loss(Tape& tape) override;
  std::optional<double> validate() override;
  std::string describe(double loss) const override;
  std::string describe_briefly(double loss) const override;
  nlohmann::json metrics(double loss) const override;
  void save(StateDict& state) const override;
  // Throws InvalidArgument naming what differs where the checkpoint is of another run.
  void load(const StateDict& state) override;
  void keep_state() override {
    kept_ = {state_, model_.rng()};
    model_.keep_output();
  }
  void restore_state() override;

 private:
  // What a step changes besides the model's parameters. Steps replace tensors, they write into
  // none.
  struct StepState {
    LstmState state;
    Rng rng;
  };

  LanguageModel& model_;
  const Vocabulary& vocabulary_;
  ColumnBatches train_;
  ColumnBatches valid_;
  nlohmann::json identity_;
  LstmState state_;
  StepState kept_;
  Segment segment_;
};

// The options of the model that a checkpoint holds. Throws DataError where it has none.
LanguageModelOptions saved_options(const StateDict& state);

// A checkpoint without its optimizer's state, of which only training has use.
StateDict load_without_optimizer(const std::string& checkpoint);

// What a checkpoint holds for those who only use the model.
struct TrainedModel {
  explicit TrainedModel(const StateDict& state, Device device = kCpu);
  LanguageModel model;
  Vocabulary vocabulary;
};

}  // namespace sketchgrad::apps::lm
