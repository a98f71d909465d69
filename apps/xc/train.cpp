#include "sketchgrad/apps/xc/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <optional>
#include <utility>

#include "sketchgrad/apps/common/config_file.h"
#include "sketchgrad/apps/common/content_hash.h"
#include "sketchgrad/apps/common/memory_advice.h"
#include "sketchgrad/apps/common/memory_watch.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/common/training_run.h"
#include "sketchgrad/apps/xc/data.h"
#include "sketchgrad/apps/xc/evaluate.h"
#include "sketchgrad/apps/xc/merge.h"
#include "sketchgrad/apps/xc/task.h"
#include "sketchgrad/framework/memory_trace.h"

namespace sketchgrad::apps::xc {

namespace {

using nlohmann::json;

void say(const std::string& line) {
  if (!MemoryTrace::active()) print_line(stderr, "xc: " + line);
}

// Log-uniform samples are of classes in order of falling frequency, as those with names are.
void check_sampling(const SoftmaxOptions& options) {
  check(
      options.softmax != "sampled" || options.sampler != "log_uniform",
      "--sampler log_uniform is for classes in order of frequency, which ids of the xc format need "
      "not be in: take unigram");
  check(options.softmax != "lsh" || options.lsh_tail == 0,
        "--lsh-tail samples classes in order of frequency, which ids of the xc format need not be "
        "in: it must be 0");
}

ClassifierOptions model_options(const TrainSettings& settings, const Examples& train) {
  ClassifierOptions options = settings.model;
  options.features = train.feature_dim();
  options.classes = train.classes();
  if (!options.is_mach() && !train.has_class_names()) check_sampling(options.softmax);
  return options;
}

int64_t rows_of_batch(const TrainSettings& settings) {
  int64_t rows = 0;
  const char* const end = settings.batch.data() + settings.batch.size();
  const auto [rest, error] = std::from_chars(settings.batch.data(), end, rows);
  check(error == std::errc() && rest == end && rows >= 1 && rows <= int64_t{1} << 24,
        "--batch: {} is neither auto nor a number of rows from 1 to 2^24", settings.batch);
  return rows;
}

std::vector<Parameter*> sketched_tables(Classifier& model, const std::string& which) {
  std::vector<Parameter*> tables;
  if (which != "input") tables = model.output_tables();
  if (which != "output") {
    const std::vector<Parameter*> inputs = model.input_tables();
    tables.insert(tables.end(), inputs.begin(), inputs.end());
  }
  return tables;
}

// How often each feature stands in the training set, or in that part of it that is looked at;
// those that are not found there count as never used.
std::vector<int64_t> feature_counts(const Examples& train) {
  constexpr int64_t kRows = 65536, kBlock = 4096;
  std::vector<int64_t> counts(static_cast<size_t>(train.feature_dim()));
  const int64_t rows = std::min(train.rows(), kRows);
  std::vector<int64_t> block;
  for (int64_t i = 0; i < rows; ++i) {
    block.push_back(i * train.rows() / rows);
    if (static_cast<int64_t>(block.size()) < kBlock && i + 1 < rows) continue;
    for (const int32_t feature : train.batch(block).features.to_vector<int32_t>()) {
      ++counts[static_cast<size_t>(feature)];
    }
    block.clear();
  }
  return counts;
}

// Of the input tables, and of outputs with a row for each class; rows of MACH's outputs are alike.
std::vector<TableUse> table_uses(Classifier& model, const ClassifierOptions& options,
                                 const Examples& train, int64_t batch) {
  const double rows = static_cast<double>(batch);
  const auto a_row = [&](int64_t total) {
    return rows * static_cast<double>(total) /
           static_cast<double>(std::max<int64_t>(1, train.rows()));
  };
  std::vector<TableUse> uses;
  const auto add = [&](const Parameter& table, bool all_rows, double occurrences,
                       std::vector<int64_t> counts) {
    uses.push_back(table_use(table));
    uses.back().all_rows = all_rows;
    uses.back().occurrences = occurrences;
    uses.back().counts = std::move(counts);
  };
  const std::vector<int64_t> counts = feature_counts(train);
  for (const Parameter* table : model.input_tables()) {
    add(*table, /*all_rows=*/false, a_row(train.features_total()), counts);
  }
  if (options.is_mach()) return uses;
  const bool draws = options.model == "sampled" || options.model == "lsh";
  std::vector<int64_t> classes;
  for (const int32_t count : train.class_counts()) classes.push_back(std::max(count, 1));
  for (const Parameter* table : model.output_tables()) {
    const double samples = draws ? static_cast<double>(options.softmax.samples) : 0.0;
    add(*table, !draws, a_row(train.labels_total()) + samples, classes);
  }
  return uses;
}

std::vector<NamedPath> inputs_of(const TrainSettings& settings) {
  return named_paths("--config", config_files(settings.run.arguments, "xc")) +
         std::vector<NamedPath>{
             {"--data", settings.data}, {"--valid", settings.valid}, {"--test", settings.test}};
}

// One training of one model, which is all of a run or one of its repetitions.
struct Training {
  const TrainSettings& settings;
  const Data& data;
  Device device;
  int64_t rows;  // of a batch
  MemoryWatch& watch;

  // Null where it was stopped. `use(model)` while the model is there.
  template <class Use>
  std::optional<json> run(const ClassifierOptions& options, const RunOptions& files,
                          const Use& use) const;
  json identity(const ClassifierOptions& options) const;
};

json Training::identity(const ClassifierOptions& options) const {
  json result = identity_of(settings, options, rows);
  result["data_checksum"] = ContentHash().add(data.train.checksum()).text();
  result["valid_checksum"] = ContentHash().add(data.valid.checksum()).text();
  return result;
}

template <class Use>
std::optional<json> Training::run(const ClassifierOptions& options, const RunOptions& files,
                                  const Use& use) const {
  const auto start = std::chrono::steady_clock::now();
  check_files(files, inputs_of(settings));
  const std::optional<CheckpointFolder> folder = open_folder(files);
  const bool resuming = files.resume && folder && folder->has_latest();
  std::vector<int64_t> counts;
  if (!options.is_mach() && needs_counts(options.softmax)) {
    const auto all = data.train.class_counts();
    for (const int32_t count : all) counts.push_back(std::max(count, 1));
  }
  Classifier model(options, device, std::move(counts));
  Optimizer optimizer = make_optimizer(settings.optimizer, files.seed);
  json memory_plan = json::object();
  if (settings.optimizer.memory.empty()) {
    // Ids of features are hashes.
    const std::vector<TableUse> uses = uses_bands(table_moments(settings.optimizer))
                                           ? table_uses(model, options, data.train, rows)
                                           : std::vector<TableUse>();
    add_parameters(optimizer, model, sketched_tables(model, settings.sketch_tables),
                   settings.optimizer, uses);
  } else {
    memory_plan = add_parameters_within(
        optimizer, model, table_uses(model, options, data.train, rows), settings.optimizer, say);
  }
  watch.describe(optimizer);
  ClassificationTask task(model, data.train, data.valid,
                          {.batch = rows,
                           .eval_batch = settings.evaluation.batch,
                           .valid_limit = settings.valid_limit,
                           .feature_dropout = settings.feature_dropout,
                           .seed = files.seed},
                          identity(options));
  const int64_t steps =
      settings.steps > 0 ? settings.steps : settings.epochs * task.steps_per_epoch();
  const auto schedule = parse_schedule(files.schedule, steps);
  MetricsLog metrics;
  TrainerOptions training =
      trainer_options(files, steps, *settings.optimizer.learning_rate, device, start);
  training.profile = watch.profile();
  Trainer trainer(task, optimizer, *schedule, training, metrics, folder ? &*folder : nullptr);
  if (resuming) resume(trainer, *folder, files, steps, device, say);
  // It empties the file, so only where nothing of the above has failed.
  metrics = open_metrics(files, resuming, trainer);
  // A signal may have come behind the last step.
  if (!trainer.run() || StopSignal::requested()) return std::nullopt;
  json report =
      training_report(trainer.figures(), task.steps_per_epoch(), "rows", [&](double loss) {
        return json{{"loss", task.one_loss(loss)}};
      });
  for (json& loss : report["train_loss_by_epoch"]) loss = task.one_loss(loss.get<double>());
  report.update(memory_plan);
  report.update(state_report(optimizer));
  report.update(telemetry_report(trainer, files));
  report["seconds"] = trainer.elapsed_seconds();
  if (!use(model)) return std::nullopt;
  return report;
}

struct PlannedWay {
  std::string name;
  PlannedRun run;
};

// For people: what a run takes at its peak, in each of the ways to train the repetitions.
std::string format_plans(int64_t rows, const std::vector<PlannedWay>& ways) {
  std::string table = fmt::format("{:<18}", fmt::format("batch of {}", rows));
  for (const PlannedWay& way : ways) table += fmt::format("{:>40}", way.name);
  const auto line = [&](std::string_view name, const auto& text) {
    table += fmt::format("\n{:<18}", name);
    for (const PlannedWay& way : ways) table += fmt::format("{:>40}", text(way.run));
  };
  for (const Category category : kCategories) {
    line(to_string(category),
         [&](const PlannedRun& run) { return format_bytes(run.at_peak[category]); });
  }
  line("total", [](const PlannedRun& run) { return format_bytes(run.at_peak.total); });
  line("peak at", [](const PlannedRun& run) { return run.moment; });
  return table;
}

json settings_report(const TrainSettings& settings, const ClassifierOptions& model, int64_t rows) {
  json report = identity_of(settings, model, rows);
  report.update({{"data", settings.data},
                 {"valid", settings.valid},
                 {"test", settings.test},
                 {"order", settings.order},
                 {"device", settings.run.compute.device},
                 {"precision", settings.run.compute.precision}});
  return report;
}

// Ranks the test set. Nothing where it was stopped.
std::optional<json> rank_test_set(Classifier& model, const Training& training) {
  const StopSignal stop;
  training.watch.begin("ranking");
  return evaluate(model, training.data.test, training.settings.evaluation);
}

std::optional<json> train_together(const Training& training, const ClassifierOptions& options) {
  json scores;
  std::optional<json> report = training.run(options, training.settings.run, [&](Classifier& model) {
    const auto ranked = rank_test_set(model, training);
    if (!ranked) return false;
    scores = *ranked;
    return true;
  });
  if (report) report->update(scores);
  return report;
}

// A folder holds one kind of model, so that it is plain which one is meant by its name.
void check_folder(const TrainSettings& settings) {
  const std::string& folder = settings.run.checkpoint;
  if (folder.empty()) return;
  const bool together = settings.order == "together";
  const std::string other = together ? joined_model(folder) : CheckpointFolder(folder).latest();
  check(!std::filesystem::exists(other),
        "--checkpoint: {} is of a model that was trained {}; name another folder", other,
        together ? "one by one" : "together");
}

RunOptions run_of_repetition(RunOptions run, int32_t repetition) {
  const std::string name = fmt::format("r{}", repetition);
  run.checkpoint = (std::filesystem::path(run.checkpoint) / name).string();
  run.report.clear();
  if (!run.metrics.empty()) run.metrics += "." + name;
  return run;
}

// Of all that the command writes, before it begins.
void check_run_files(const TrainSettings& settings) {
  const std::vector<NamedPath> inputs = inputs_of(settings);
  if (settings.order == "together") return check_files(settings.run, inputs);
  std::vector<NamedPath> more = {{"--checkpoint", joined_model(settings.run.checkpoint)}};
  for (const int32_t repetition : settings.model.repetitions) {
    const RunOptions run = run_of_repetition(settings.run, repetition);
    more = more + named_paths("--checkpoint", files_of_folder(run.checkpoint)) +
           named_paths("--metrics", {run.metrics});
  }
  check_files(settings.run, inputs, more);
}

std::optional<json> train_one_by_one(const Training& training, const ClassifierOptions& options) {
  namespace fs = std::filesystem;
  const fs::path folder = training.settings.run.checkpoint;
  std::vector<RunOptions> runs;
  for (const int32_t repetition : options.repetitions) {
    runs.push_back(run_of_repetition(training.settings.run, repetition));
    open_folder(runs.back());  // refuses what is there before anything is trained
  }
  // It is of what the repetitions were before.
  fs::remove(joined_model(folder.string()));
  std::vector<std::string> models;
  json repetitions = json::array();
  for (size_t i = 0; i < runs.size(); ++i) {
    ClassifierOptions one = options;
    one.repetitions = {options.repetitions[i]};
    say(fmt::format("repetition {}", options.repetitions[i]));
    std::optional<json> report = training.run(one, runs[i], [](Classifier&) { return true; });
    if (!report) return std::nullopt;
    repetitions.push_back(std::move(*report));
    models.push_back(checkpoint_file(runs[i].checkpoint));
  }
  const std::string merged = joined_model(folder.string());
  merge(models, merged);
  say(fmt::format("{}: the joined model", merged));
  TrainedClassifier trained(merged, training.data.train, training.device);
  const auto ranked = rank_test_set(trained.model, training);
  if (!ranked) return std::nullopt;
  json report = {{"trained", repetitions}};
  for (const char* name : {"seconds", "training_seconds"}) {
    double sum = 0;
    for (const json& one : repetitions) sum += one[name].get<double>();
    report[name] = sum;
  }
  report.update(*ranked);
  return report;
}

// What train_one_by_one takes, of the first repetition, and of the joined model without its file.
// False where it was stopped.
bool trace_one_by_one(const Training& training, const ClassifierOptions& options) {
  ClassifierOptions one = options;
  one.repetitions.resize(1);
  if (!training.run(one, training.settings.run, [](Classifier&) { return true; })) return false;
  training.watch.begin("joined model");
  Classifier model(options);
  const std::vector<Parameter*> parameters = model.parameters();
  const auto largest = std::max_element(
      parameters.begin(), parameters.end(),
      [](const auto* a, const auto* b) { return a->value.numel() < b->value.numel(); });
  Tensor::empty((*largest)->value.shape(), {Category::parameter, "read parameter"});
  return rank_test_set(model, training).has_value();
}

// Traces of runs over data that has been opened.
class DataPlanner : public RunPlanner {
 public:
  DataPlanner(TrainSettings settings, ClassifierOptions options, const Data& data)
      : settings_(std::move(settings)), options_(std::move(options)), data_(data) {
    settings_.run = for_trace(std::move(settings_.run));
    // A search costs what it costs in earnest, and one batch is like another.
    constexpr int64_t kRankedBatches = 2;
    EvaluationSettings& evaluation = settings_.evaluation;
    const int64_t ranked = kRankedBatches * evaluation.batch;
    if (evaluation.limit == 0 || evaluation.limit > ranked) evaluation.limit = ranked;
  }

  int64_t batch() const override {
    return settings_.batch == "auto" ? 1 : rows_of_batch(settings_);
  }
  int64_t most() const override { return data_.train.rows(); }
  PlannedRun plan(int64_t rows) const override {
    TrainSettings settings = settings_;
    const int64_t epoch = std::max<int64_t>(1, (data_.train.rows() + rows - 1) / rows);
    settings.steps =
        traced_steps(settings.steps > 0 ? settings.steps : settings.epochs * epoch, rows);
    return trace_run(settings.run, [&](MemoryWatch& watch) {
      const Training training{settings, data_, kCpu, rows, watch};
      return settings.order == "together" ? train_together(training, options_).has_value()
                                          : trace_one_by_one(training, options_);
    });
  }

 private:
  TrainSettings settings_;
  ClassifierOptions options_;
  const Data& data_;
};

TrainSettings with_batch(TrainSettings settings, int64_t rows) {
  settings.batch = std::to_string(rows);
  return settings;
}

// Whether there are repetitions that share nothing.
bool can_train_apart(const ClassifierOptions& options) {
  return options.is_mach() && !options.shared_hidden && options.repetitions.size() > 1;
}

std::string advice_of(const Training& run, const ClassifierOptions& options, int64_t available) {
  const auto planner = [&](const TrainSettings& settings) {
    return std::make_unique<DataPlanner>(with_batch(settings, run.rows), options, run.data);
  };
  AdvisedRun advised = advised_run(run.settings, planner);
  if (can_train_apart(options) && run.settings.order == "together") {
    advised.others.push_back([&] {
      TrainSettings settings = run.settings;
      settings.order = "one-by-one";
      return Proposal{"--train-order one-by-one", planner(settings)->plan(run.rows)};
    });
  }
  return memory_advice(advised, available);
}

int64_t choose_batch(const TrainSettings& settings, const ClassifierOptions& options,
                     const Data& data) {
  if (settings.batch != "auto") return rows_of_batch(settings);
  const DataPlanner planner(settings, options, data);
  const int64_t budget = parse_bytes("--memory-budget", settings.memory_budget);
  const int64_t rows = planner.largest_batch(budget);
  check(rows > 0,
        "--memory-budget: {} is less than the {} bytes that a run with batches of a row takes",
        budget, planner.plan(1).at_peak.total);
  say(fmt::format("batch of {} rows", rows));
  return rows;
}

// What a plan reads and chooses before.
struct PlannerInputs {
  explicit PlannerInputs(const TrainSettings& settings)
      : compute(for_trace(settings.run).compute),
        data(open_data(settings)),
        options(model_options(settings, data.train)) {
    check_settings(settings.evaluation, options, data.test);
    rows = choose_batch(settings, options, data);
  }
  Compute compute;
  Data data;
  ClassifierOptions options;
  int64_t rows = 0;  // of a batch
};

class Planner final : private PlannerInputs, public DataPlanner {
 public:
  explicit Planner(const TrainSettings& settings)
      : PlannerInputs(settings), DataPlanner(with_batch(settings, rows), options, data) {}
};

}  // namespace

std::unique_ptr<RunPlanner> make_planner(const TrainSettings& settings) {
  return std::make_unique<Planner>(settings);
}

std::string plan(const TrainSettings& settings) {
  const PlannerInputs inputs(settings);
  const ClassifierOptions& options = inputs.options;
  std::vector<PlannedWay> ways;
  const auto add = [&](const std::string& name, const char* order, const ClassifierOptions& of) {
    TrainSettings changed = settings;
    changed.order = order;
    ways.push_back({name, DataPlanner(changed, of, inputs.data).plan(inputs.rows)});
  };
  if (can_train_apart(options)) {
    ClassifierOptions one = options;
    one.repetitions.resize(1);
    add("a process each", "together", one);
    add("one by one", "one-by-one", options);
  }
  add(!options.is_mach() ? options.model
                         : (options.shared_hidden ? "together, shared hidden layer" : "together"),
      "together", options);
  return format_plans(inputs.rows, ways);
}

TrainOutcome train(const TrainSettings& settings) {
  const Compute compute(settings.run.compute);
  check_run_files(settings);
  const Data data = open_data(settings);
  const ClassifierOptions options = model_options(settings, data.train);
  say(fmt::format("{} rows, {} classes, {} features; {} rows of test", data.train.rows(),
                  options.classes, options.features, data.test.rows()));
  check_settings(settings.evaluation, options, data.test);
  check_folder(settings);
  const int64_t rows = choose_batch(settings, options, data);
  MemoryWatch watch(settings.run, compute.device());
  const Training training{settings, data, compute.device(), rows, watch};
  std::optional<json> results;
  try {
    results = settings.order == "together" ? train_together(training, options)
                                           : train_one_by_one(training, options);
  } catch (const OutOfMemory& error) {
    const int64_t available = watch.available();
    watch.close();
    say("out of memory; looking for settings that fit");
    throw_with_advice(error, [&] { return advice_of(training, options, available); });
  }
  if (!results) return {};
  json report = settings_report(settings, options, training.rows);
  report["threads"] = compute.threads();
  report.update(*results);
  report.update(peak_report(compute.device()));
  print_scores(report);
  print_memory_table(compute.device());
  write_results(settings.run, report, watch);
  return {true, std::move(report)};
}

}  // namespace sketchgrad::apps::xc
