#pragma once

#include <nlohmann/json.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/apps/common/checkpoint_folder.h"
#include "sketchgrad/apps/common/metrics_log.h"
#include "sketchgrad/apps/common/progress.h"
#include "sketchgrad/framework/memory_profile.h"
#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tape.h"
#include "sketchgrad/optim/optimizer.h"
#include "sketchgrad/optim/schedule.h"
#include "sketchgrad/optim/sketch_telemetry.h"

namespace sketchgrad::apps {

// What is trained, as the Trainer sees it.
class TrainingTask {
 public:
  virtual ~TrainingTask() = default;
  virtual Module& model() = 0;
  virtual int64_t steps_per_epoch() const = 0;
  // Makes the data of a step ready; step 0 begins an epoch. Returns the number of examples (tokens)
  // that the loss will be the mean of.
  virtual int64_t fetch(int64_t step_of_epoch) = 0;
  virtual Variable loss(Tape& tape) = 0;
  // Mean loss over the validation data; none where StopSignal::requested() ended it early.
  virtual std::optional<double> validate() = 0;
  // A mean loss in the words of the task: for lines that stay, for the bar (short), and for the
  // metrics log.
  virtual std::string describe(double loss) const;
  virtual std::string describe_briefly(double loss) const { return describe(loss); }
  virtual nlohmann::json metrics(double loss) const;
  // What a run needs to go on bit for bit, besides parameters, optimizer, schedule and the
  // trainer's own figures.
  virtual void save(StateDict& state) const = 0;
  virtual void load(const StateDict& state) = 0;
  // Before each step's fetch: remembers what save() would write, for a step that cannot be
  // finished; restore_state() then brings it back.
  virtual void keep_state() = 0;
  virtual void restore_state() = 0;
};

// Wall time of the parts of training steps. Where losses are read late, the parts end when their
// work is queued, and waiting for it counts to the optimizer: only the total means something.
struct PhaseSeconds {
  double data = 0;
  double forward_backward = 0;
  double clip = 0;
  double optimizer = 0;
  double total() const { return data + forward_backward + clip + optimizer; }
};

struct LossMean {
  double sum = 0;  // of loss x examples
  int64_t examples = 0;
  void add(double loss, int64_t count) {
    sum += loss * static_cast<double>(count);
    examples += count;
  }
  double value() const { return examples > 0 ? sum / static_cast<double>(examples) : 0.0; }
};

struct Validation {
  int64_t step = 0;
  double loss = 0;
};

// Of the whole run, including what was done before it was resumed.
struct TrainingFigures {
  int64_t steps = 0;
  int64_t examples = 0;
  PhaseSeconds seconds;
  LossMean epoch;                    // the one that is not finished
  LossMean interval;                 // since the last line of the metrics log
  std::vector<double> epoch_losses;  // mean training loss of each finished epoch
  std::vector<Validation> validations;

  // Of training alone, without validations and checkpoints.
  double examples_per_second() const;
  std::optional<double> best_validation() const;
};

struct TrainerOptions {
  int64_t total_steps = 0;
  double learning_rate = 0;      // what the schedule's factor multiplies
  double clip = 0;               // 0: none
  int64_t eval_every = 0;        // steps; 0: at the end of each epoch. Also after the last step
  int64_t checkpoint_every = 0;  // steps; 0: after validations only
  int64_t log_every = 50;        // steps
  // Steps after which losses and norms are read from the device, which waits for it; at the ends of
  // intervals, epochs and checkpoints in any case. Above 1 a number that is not finite is noticed
  // so many steps late, and those steps are lost.
  int64_t read_every = 1;
  // Where a step runs out of memory before it has changed anything, sketches are folded to half
  // (Optimizer::fold) and the step is begun anew, as long as there is something to fold.
  bool fold_on_oom = false;
  // Rows of the reservoirs that tell the sketches' error (SketchTelemetry); 0: none.
  int64_t telemetry_rows = 0;
  uint64_t telemetry_seed = 0;
  Device device = kCpu;              // of the model
  MemoryProfile* profile = nullptr;  // is told of steps, validations and checkpoints
  // When the program began: what was done before training counts as wall time, too.
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

// The training loop: steps, validations, checkpoints, progress and metrics. A run that is stopped
// and resumed from its checkpoint gives the same bits as one that was not.
class Trainer {
 public:
  // All references must outlive it; `folder` may be null. The optimizer holds the model's
  // parameters. Throws InvalidArgument where telemetry is wanted and nothing lies in a sketch.
  Trainer(TrainingTask& task, Optimizer& optimizer, Schedule& schedule,
          const TrainerOptions& options, MetricsLog& metrics, const CheckpointFolder* folder);

  // Goes on from a checkpoint. Throws DataError if it is none of this model and optimizer, and
  // InvalidArgument if it lacks what telemetry is to go on from.
  void load(const StateDict& state);
  // Trains to the last step. False where SIGINT or SIGTERM ended it; then the checkpoint is
  // written. Throws NumericError naming the step where the loss or a gradient is not finite. The
  // latest checkpoint is written also where anything is thrown, and is then of the last finished
  // step, unless the parameters were already on their way to the next one. What the step had taken
  // is given back, and run() may be called again: it begins the step anew, with parameters that may
  // have taken part of it already if they were on their way.
  bool run();

  const TrainingFigures& figures() const { return figures_; }
  // What the run was to have that wrote the loaded checkpoint; 0 without one.
  int64_t loaded_total_steps() const { return loaded_total_steps_; }
  // Relative errors of the sketches now, by moment ("embedding.weight.first"); null without
  // telemetry or where there is no memory left to read them, and of a moment where the exact state
  // is 0.
  nlohmann::json sketch_errors() const;
  // Wall time of the whole run: of this process, and of the one before up to its checkpoint, which
  // counts the ones before that.
  double elapsed_seconds() const;

 private:
  // How far the state is from that of a finished step. updating: the parameters are of no step that
  // could be saved.
  enum class StepState { finished, begun, updating };

  bool train(Progress& progress);
  void step(Progress& progress);
  void attempt_step();
  bool fold(const OutOfMemory& error, Progress& progress);
  void forward_backward();
  void clip();
  void update();
  void finish_step(int64_t examples);
  bool reads_at_once() const { return options_.read_every == 1; }
  // Whether the results of the steps so far are wanted now.
  bool results_due() const;
  // Reads and counts the losses of finished steps. Throws NumericError naming the first one whose
  // loss or norm is not finite.
  void read_results();
  bool validation_due() const;
  bool validate(Progress& progress);
  nlohmann::json end_interval();
  void write_interval();
  void show(Progress& progress) const;
  void save(const std::string& file) const;
  void save_latest();
  bool abandon_step() noexcept;
  void save_before_error(Progress& progress);
  void mark(std::string_view stretch, int64_t step);
  int64_t epoch() const { return figures_.steps / task_.steps_per_epoch(); }

  TrainingTask& task_;
  Optimizer& optimizer_;
  Schedule& schedule_;
  TrainerOptions options_;
  MetricsLog& metrics_;
  const CheckpointFolder* folder_;
  std::optional<SketchTelemetry> telemetry_;
  TrainingFigures figures_;
  double last_loss_ = 0;
  double last_norm_ = 0;
  int64_t loaded_total_steps_ = 0;
  double loaded_seconds_ = 0;
  int64_t saved_steps_ = -1;  // when the latest checkpoint was written
  StepState step_state_ = StepState::finished;
  // Of finished steps that have not been read, one entry each: losses_ and norms_ [read_every].
  std::vector<int64_t> unread_examples_;
  Tensor losses_;
  Tensor norms_;
  nlohmann::json interval_entry_;  // that is still to be written; null: none
};

}  // namespace sketchgrad::apps
