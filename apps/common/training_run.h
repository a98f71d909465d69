#pragma once

#include <nlohmann/json.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "sketchgrad/apps/common/checkpoint_folder.h"
#include "sketchgrad/apps/common/memory_watch.h"
#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/apps/common/output_paths.h"
#include "sketchgrad/apps/common/trainer.h"
#include "sketchgrad/optim/memory_plan.h"

// What commands that train have around the Trainer, whatever they train.
namespace sketchgrad::apps {

// Throws IoError where what the run is to write could not be written, and InvalidArgument where
// that is one of its inputs, or twice the same file. `more`: outputs that the options do not name.
void check_files(const RunOptions& run, const std::vector<NamedPath>& inputs,
                 const std::vector<NamedPath>& more = {});
// Null where no folder was asked for. Throws InvalidArgument where there is a checkpoint in it and
// the run is not to go on from one.
std::optional<CheckpointFolder> open_folder(const RunOptions& run);

// Adds all parameters of the model: those among `tables` with the memories that the options mean,
// the others with the optimizer's own. Banded sketches take rows in the order of their ids, or of
// the tables among `uses` by falling count.
void add_parameters(Optimizer& optimizer, const Module& model,
                    const std::vector<Parameter*>& tables, const OptimizerOptions& options,
                    const std::vector<TableUse>& uses = {});
// Whether one of the memories has bands.
bool uses_bands(const Moments& moments);

// The same where the options name a budget: with memories that plan_memories chooses. `uses`: of
// those parameters of which is known how often their rows occur; of the others all rows are alike,
// in every step. `say` is told the plan. What the report holds of it.
nlohmann::json add_parameters_within(Optimizer& optimizer, const Module& model,
                                     const std::vector<TableUse>& uses,
                                     const OptimizerOptions& options,
                                     const std::function<void(const std::string&)>& say);

// Of RunOptions, of the device of the model, and of when the program began.
TrainerOptions trainer_options(const RunOptions& run, int64_t steps, double learning_rate,
                               Device device, std::chrono::steady_clock::time_point start);

// Throws InvalidArgument naming the setting where the run of a checkpoint, `saved`, had other ones
// than this one has: `identity`. Sketches of a moment may differ: the optimizer goes on with the
// narrower where one folds to the other, and otherwise says why not.
void check_resumes(const nlohmann::json& identity, const nlohmann::json& saved,
                   const std::string& source);

// So that what went before does not stand in the peaks of training.
void reset_peaks(Device device);

// Loads the folder's latest checkpoint; `say` is told where it goes on.
void resume(Trainer& trainer, const CheckpointFolder& folder, const RunOptions& run, int64_t steps,
            Device device, const std::function<void(const std::string&)>& say);
// The metrics log of a run; it empties the file unless the run goes on.
MetricsLog open_metrics(const RunOptions& run, bool resuming, const Trainer& trainer);

// Steps, examples (under the name `examples`: "tokens" also gives "tokens_per_second"), seconds and
// losses. describe(loss): what a validation holds besides step and loss.
nlohmann::json training_report(const TrainingFigures& figures, int64_t steps_per_epoch,
                               const std::string& examples,
                               const std::function<nlohmann::json(double)>& describe);
// Peaks of the device that trains, and where that is not the CPU, of the CPU beside it.
nlohmann::json peak_report(Device device);
// "optimizer_state_bytes", by name.
nlohmann::json state_report(const Optimizer& optimizer);
// "telemetry_rows" and "sketch_error"; nothing without telemetry.
nlohmann::json telemetry_report(const Trainer& trainer, const RunOptions& run);
// peak_report and state_report.
nlohmann::json memory_report(const Optimizer& optimizer, Device device);
void print_memory_table(Device device);

// What a run leaves behind: its report, then its memory profile. Where the report cannot be written
// the profile is all the same, as far as that goes. Throws IoError.
void write_results(const RunOptions& run, const nlohmann::json& report, MemoryWatch& watch);

}  // namespace sketchgrad::apps
