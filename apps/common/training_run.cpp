#include "sketchgrad/apps/common/training_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/optim/sketch_memory.h"

namespace sketchgrad::apps {

namespace {

using nlohmann::json;

// Steps that a GPU may be behind when losses are read, at most.
constexpr int64_t kReadEvery = 50;

json to_json(const PhaseSeconds& seconds) {
  return {{"data", seconds.data},
          {"forward_backward", seconds.forward_backward},
          {"clip", seconds.clip},
          {"optimizer", seconds.optimizer}};
}

// Schedules that end with the run.
bool depends_on_total(const std::string& schedule) {
  return schedule.starts_with("linear") || schedule.starts_with("cosine");
}

bool is_sketch(const std::string& memory, MomentRole role) {
  const MemorySpec spec = parse_memory(memory, role);
  return std::holds_alternative<CountSketch>(spec) || std::holds_alternative<CountMin>(spec);
}

bool is_banded(const MemorySpec& memory) {
  const auto* const first = std::get_if<CountSketch>(&memory);
  const auto* const second = std::get_if<CountMin>(&memory);
  return (first != nullptr && first->banded) || (second != nullptr && second->banded);
}

// Rows of equal counts by id.
std::vector<int32_t> by_falling_count(const std::vector<int64_t>& counts) {
  std::vector<int32_t> rows(counts.size());
  std::iota(rows.begin(), rows.end(), 0);
  std::stable_sort(rows.begin(), rows.end(), [&](int32_t a, int32_t b) {
    return counts[static_cast<size_t>(a)] > counts[static_cast<size_t>(b)];
  });
  return rows;
}

// Null where there is none.
const TableUse* find_use(const std::vector<TableUse>& uses, const std::string& name) {
  const auto use = std::find_if(uses.begin(), uses.end(),
                                [&](const TableUse& candidate) { return candidate.name == name; });
  return use != uses.end() ? &*use : nullptr;
}

// Whether a setting may be another one after --resume: of two sketches the optimizer says whether
// one folds to the other.
bool may_differ(const std::string& name, const json& before, const json& now) {
  if (name != "moment1" && name != "moment2") return false;
  const MomentRole role = name == "moment1" ? MomentRole::first : MomentRole::second;
  const auto sketched = [role](const json& memory) {
    return memory.is_string() && is_sketch(memory.get<std::string>(), role);
  };
  return sketched(before) && sketched(now);
}

}  // namespace

void check_files(const RunOptions& run, const std::vector<NamedPath>& inputs,
                 const std::vector<NamedPath>& more) {
  std::vector<NamedPath> outputs = {{"--report", run.report}, {"--metrics", run.metrics}};
  if (!run.checkpoint.empty()) {
    outputs = outputs + named_paths("--checkpoint", files_of_folder(run.checkpoint));
  }
  if (!run.memory_profile.empty()) {
    outputs.push_back({"--memory-profile", memory_profile_file(run.memory_profile)});
  }
  check_outputs(outputs + more, inputs);
  if (!run.report.empty()) check_replaceable("report", run.report);
  if (!run.metrics.empty()) check_metrics_path(run.metrics);
  if (!run.memory_profile.empty()) check_memory_profile(run.memory_profile);
}

std::optional<CheckpointFolder> open_folder(const RunOptions& run) {
  if (run.checkpoint.empty()) return std::nullopt;
  CheckpointFolder folder(run.checkpoint);
  check(run.resume || !folder.has_latest(),
        "--checkpoint: {} exists; --resume goes on from it, otherwise name another folder",
        folder.latest());
  return folder;
}

bool uses_bands(const Moments& moments) {
  return is_banded(moments.first) || is_banded(moments.second);
}

void add_parameters(Optimizer& optimizer, const Module& model,
                    const std::vector<Parameter*>& tables, const OptimizerOptions& options,
                    const std::vector<TableUse>& uses) {
  Moments moments = table_moments(options);
  for (Parameter* parameter : model.parameters()) {
    if (std::find(tables.begin(), tables.end(), parameter) == tables.end()) {
      optimizer.add(*parameter);
      continue;
    }
    const TableUse* const use = find_use(uses, parameter->name);
    const bool has_order = use != nullptr && uses_bands(moments);
    moments.row_order = has_order ? by_falling_count(use->counts) : std::vector<int32_t>();
    optimizer.add(*parameter, moments);
  }
}

nlohmann::json add_parameters_within(Optimizer& optimizer, const Module& model,
                                     const std::vector<TableUse>& uses,
                                     const OptimizerOptions& options,
                                     const std::function<void(const std::string&)>& say) {
  const std::vector<Parameter*> parameters = model.parameters();
  std::vector<TableUse> all;
  for (const Parameter* parameter : parameters) {
    const TableUse* const known = find_use(uses, parameter->name);
    all.push_back(known != nullptr ? *known : table_use(*parameter));
  }
  const int64_t budget = parse_bytes("--optimizer-memory", options.memory);
  const MemoryPlan plan = plan_memories(optimizer, all, budget);
  const RuleStep rule = optimizer.rule_step(1);
  say(fmt::format("{:<22} {:<8} {:<26} {:>18} {:>13} {:>9} {:>15}", "state of", "moment", "memory",
                  "buckets", "bytes", "of dense", "expected error"));
  json tables = json::array();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const PlannedTable& table = plan.tables[i];
    optimizer.add(*parameters[i], table.moments);
    const auto tell = [&](MomentRole role, const MemorySpec& spec, int64_t bytes,
                          const ExpectedError& error) {
      const std::string moment = to_string(role);
      const auto dense = static_cast<double>(parameters[i]->value.numel()) * 4;
      json entry = {{"parameter", parameters[i]->name}, {"moment", moment},
                    {"memory", to_string(spec)},        {"bytes", bytes},
                    {"expected_error", error.step},     {"expected_state_error", error.state}};
      std::string buckets;
      const auto* const sketch =
          dynamic_cast<const SketchMemory*>(optimizer.memory(*parameters[i], role));
      if (sketch != nullptr) {
        const SketchGeometry& geometry = sketch->geometry();
        buckets = fmt::format("{} x {}", geometry.depth, geometry.width);
        if (geometry.heavy_rows > 0) buckets += fmt::format(" + {}", geometry.heavy_rows);
        entry.update({{"depth", geometry.depth},
                      {"width", geometry.width},
                      {"heavy_rows", geometry.heavy_rows}});
      }
      say(fmt::format("{:<22} {:<8} {:<26} {:>18} {:>13} {:>8.2f}% {:>15.3f}", parameters[i]->name,
                      moment, to_string(spec), buckets, bytes,
                      100.0 * static_cast<double>(bytes) / dense, error.step));
      tables.push_back(std::move(entry));
    };
    if (rule.first) {
      tell(MomentRole::first, table.moments.first, table.first_bytes, table.first_error);
    }
    if (rule.second) {
      tell(MomentRole::second, table.moments.second, table.second_bytes, table.second_error);
    }
  }
  say(fmt::format("{} of {} bytes for the optimizer's state; dense it would be {}", plan.bytes,
                  budget, plan.dense_bytes));
  return {{"optimizer_memory_plan", tables}};
}

TrainerOptions trainer_options(const RunOptions& run, int64_t steps, double learning_rate,
                               Device device, std::chrono::steady_clock::time_point start) {
  return {.total_steps = steps,
          .learning_rate = learning_rate,
          .clip = run.clip,
          .eval_every = run.eval_every,
          .checkpoint_every = run.checkpoint_every,
          .log_every = run.log_every,
          // On the CPU nothing is waited for.
          .read_every = device == kCpu ? 1 : std::min(run.log_every, kReadEvery),
          .fold_on_oom = run.on_oom == "fold",
          .telemetry_rows = run.telemetry_rows,
          .telemetry_seed = run.seed,
          .device = device,
          .start = start};
}

void check_resumes(const json& identity, const json& saved, const std::string& source) {
  for (const auto& [name, value] : identity.items()) {
    const json before = saved.value(name, json());
    check(before == value || may_differ(name, before, value),
          "--resume: {} has {} = {}, now it is {}", source, name, before.dump(), value.dump());
  }
}

void reset_peaks(Device device) {
  for (const Device used : {kCpu, device}) {
    allocator(used).restart_cache();
    allocator(used).reset_peak();
  }
}

void resume(Trainer& trainer, const CheckpointFolder& folder, const RunOptions& run, int64_t steps,
            Device device, const std::function<void(const std::string&)>& say) {
  trainer.load(load_safetensors(folder.latest()));
  say(fmt::format("going on after step {} of {}", trainer.figures().steps, folder.latest()));
  if (depends_on_total(run.schedule) && trainer.loaded_total_steps() != steps) {
    say(fmt::format("the {} schedule ends at step {} now, before it was step {}", run.schedule,
                    steps, trainer.loaded_total_steps()));
  }
  reset_peaks(device);  // what was loaded counted as parameters beside the model's own
}

MetricsLog open_metrics(const RunOptions& run, bool resuming, const Trainer& trainer) {
  if (run.metrics.empty()) return {};
  return resuming ? MetricsLog(run.metrics, trainer.figures().steps) : MetricsLog(run.metrics);
}

json training_report(const TrainingFigures& figures, int64_t steps_per_epoch,
                     const std::string& examples, const std::function<json(double)>& describe) {
  json losses = figures.epoch_losses;
  if (figures.epoch.examples > 0) losses.push_back(figures.epoch.value());
  json validations = json::array();
  for (const Validation& validation : figures.validations) {
    json entry = {{"step", validation.step}, {"loss", validation.loss}};
    entry.update(describe(validation.loss));
    validations.push_back(std::move(entry));
  }
  return {{"steps", figures.steps},
          {"epochs", static_cast<double>(figures.steps) / static_cast<double>(steps_per_epoch)},
          {examples, figures.examples},
          {examples + "_per_second", figures.examples_per_second()},
          {"training_seconds", figures.seconds.total()},
          {"phase_seconds", to_json(figures.seconds)},
          {"train_loss_by_epoch", losses},
          {"validations", validations}};
}

json peak_report(Device device) {
  json report = {{"peak_bytes", apps::to_json(allocator(device).peak())},
                 {"at_peak_bytes", apps::to_json(allocator(device).at_peak())},
                 {"peak_reserved_bytes", allocator(device).peak_reserved_bytes()},
                 {"peak_resident_bytes", peak_resident_bytes()}};
  if (device != kCpu) report["cpu_peak_bytes"] = apps::to_json(allocator().peak());
  return report;
}

json state_report(const Optimizer& optimizer) {
  json state = json::object();
  for (const StateBytes& entry : optimizer.state_bytes()) state[entry.name] = entry.bytes;
  return {{"optimizer_state_bytes", state}};
}

json telemetry_report(const Trainer& trainer, const RunOptions& run) {
  if (run.telemetry_rows == 0) return json::object();
  return {{"telemetry_rows", run.telemetry_rows}, {"sketch_error", trainer.sketch_errors()}};
}

json memory_report(const Optimizer& optimizer, Device device) {
  json report = peak_report(device);
  report.update(state_report(optimizer));
  return report;
}

void print_memory_table(Device device) {
  std::string table = format_memory_table(allocator(device).peak(), allocator(device).at_peak());
  table.pop_back();  // its last end of line
  print_line(stdout, table);
}

void write_results(const RunOptions& run, const json& report, MemoryWatch& watch) {
  try {
    if (!run.report.empty()) write_json(run.report, report);
  } catch (const IoError&) {
    watch.close();  // tells on stderr what happens to the profile
    throw;
  }
  watch.finish();
}

}  // namespace sketchgrad::apps
