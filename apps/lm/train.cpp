#include "sketchgrad/apps/lm/train.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
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
#include "sketchgrad/apps/lm/evaluate.h"
#include "sketchgrad/apps/lm/task.h"
#include "sketchgrad/framework/memory_trace.h"

namespace sketchgrad::apps::lm {

namespace {

using nlohmann::json;

void say(const std::string& line) {
  if (!MemoryTrace::active()) print_line(stderr, "lm: " + line);
}

struct Texts {
  TrainingText train;
  TokenIds valid;
  TokenIds test;  // empty without a test text
};

Texts read_texts(const TrainSettings& settings) {
  const CachedReader reader(settings.cache, say);
  Texts texts{reader.read_training_text(settings.train, settings.vocabulary), {}, {}};
  if (texts.train.most_dropped > 0) {
    say(
        fmt::format("more than --vocab-limit {} different words: of those dropped while counting, "
                    "none stood more than {} times",
                    settings.vocabulary.most_words, texts.train.most_dropped));
  }
  const Vocabulary& vocabulary = texts.train.vocabulary;
  texts.valid = reader.read_text(settings.valid, vocabulary);
  if (!settings.test.empty()) texts.test = reader.read_text(settings.test, vocabulary);
  say(fmt::format("{} words; tokens: {} training, {} validation, {} test", vocabulary.size(),
                  texts.train.ids.size(), texts.valid.size(), texts.test.size()));
  return texts;
}

LanguageModelOptions model_options(const TrainSettings& settings, const Vocabulary& vocabulary) {
  LanguageModelOptions options = settings.model;
  options.vocabulary = vocabulary.size();
  return options;
}

// How often each word stands in the text, where the softmax or the optimizer's budget asks for it.
// <unk> and <eos> may stand in the vocabulary alone.
std::vector<int64_t> word_counts(const TrainSettings& settings, const TrainingText& text) {
  if (!needs_counts(settings.model.softmax) && settings.optimizer.memory.empty()) return {};
  std::vector<int64_t> counts(static_cast<size_t>(text.vocabulary.size()));
  for (const int32_t id : text.ids.all()) {
    // Nobody has looked at ids from a cache yet.
    if (id < 0 || id >= text.vocabulary.size()) {
      throw DataError(fmt::format("the cache of {}", fmt::join(settings.train, ", ")), 0,
                      fmt::format("id {} is none of {} words", id, text.vocabulary.size()));
    }
    ++counts[static_cast<size_t>(id)];
  }
  for (int64_t& count : counts) count = std::max<int64_t>(count, 1);
  return counts;
}

// What is left open of the softmax: taken from the checkpoint (empty: none) that training goes on
// from.
void choose_softmax(TrainSettings& settings, const std::vector<int64_t>& counts,
                    const std::string& checkpoint, Device device) {
  LanguageModelOptions& model = settings.model;
  if (model.softmax.softmax != "adaptive" || !model.softmax.cutoffs.empty()) return;
  if (!checkpoint.empty()) {
    model.softmax.cutoffs = saved_options(load_safetensors(checkpoint, [](const std::string&) {
                              return false;
                            })).softmax.cutoffs;
  } else {
    complete(model.softmax, counts, settings.batch * settings.bptt, model.output_dim(), device);
  }
  say(fmt::format("cutoffs {}", fmt::join(model.softmax.cutoffs, ",")));
}

std::vector<Parameter*> sketched_tables(LanguageModel& model, const std::string& which) {
  std::vector<Parameter*> tables;
  if (which != "embedding") tables = model.output_tables();
  if (which != "output") tables.push_back(&model.embedding_table());
  return tables;
}

// Of the tables with a row for each word.
std::vector<TableUse> table_uses(const TrainSettings& settings, LanguageModel& model,
                                 const std::vector<int64_t>& counts) {
  const std::string& softmax = settings.model.softmax.softmax;
  const bool draws = softmax == "sampled" || softmax == "lsh";
  const auto tokens = static_cast<double>(settings.batch * settings.bptt);
  std::vector<TableUse> uses;
  const auto add = [&](const Parameter& table, bool all_rows, double occurrences) {
    TableUse use = table_use(table);
    use.all_rows = all_rows;
    if (use.rows == static_cast<int64_t>(counts.size())) use.counts = counts;
    use.occurrences = occurrences;
    uses.push_back(std::move(use));
  };
  for (const Parameter* table : model.output_tables()) {
    const auto samples = draws ? static_cast<double>(settings.model.softmax.samples) : 0.0;
    add(*table, !draws, tokens + samples);
  }
  if (!settings.model.tie) add(model.embedding_table(), /*all_rows=*/false, tokens);
  return uses;
}

json identity(const TrainSettings& settings, const Texts& texts,
              const LanguageModelOptions& options) {
  json result = identity_of(settings);
  result["vocabulary"] = options.vocabulary;
  result["text_checksum"] =
      ContentHash().add(texts.train.vocabulary.checksum()).add(texts.train.ids.checksum()).text();
  result["valid_checksum"] = ContentHash().add(texts.valid.checksum()).text();
  return result;
}

ColumnBatches train_columns(const TrainSettings& settings, const Texts& texts) {
  return {texts.train.ids, settings.batch, settings.bptt, /*limit=*/0,
          fmt::format("--train {}:", fmt::join(settings.train, ", "))};
}

ColumnBatches valid_columns(const TrainSettings& settings, const Texts& texts, int64_t limit) {
  return {texts.valid, settings.eval_batch, settings.bptt, limit,
          fmt::format("--valid {}:", settings.valid)};
}

ColumnBatches test_columns(const TrainSettings& settings, const Texts& texts) {
  return {texts.test, settings.eval_batch, settings.bptt, /*limit=*/0,
          fmt::format("--test {}:", settings.test)};
}

// Before the training, not behind it.
void check_lengths(const TrainSettings& settings, const Texts& texts) {
  train_columns(settings, texts);
  valid_columns(settings, texts, settings.valid_limit);
  if (!settings.test.empty()) test_columns(settings, texts);
}

int64_t total_steps(const TrainSettings& settings, const ColumnBatches& train) {
  return settings.steps > 0 ? settings.steps : settings.epochs * train.segments();
}

struct Scores {
  double valid = 0;
  std::optional<double> test;
};

// Of the parameters as they are after the last step. None where it was stopped.
std::optional<Scores> score(const TrainSettings& settings, const Texts& texts, LanguageModel& model,
                            const TrainingFigures& figures) {
  const StopSignal stop;
  Scores scores;
  if (settings.valid_limit == 0) {
    scores.valid = figures.validations.back().loss;
  } else {
    const auto mean = evaluate(model, valid_columns(settings, texts, /*limit=*/0), "valid");
    if (!mean) return std::nullopt;
    scores.valid = mean->value();
  }
  if (!settings.test.empty()) {
    const auto mean = evaluate(model, test_columns(settings, texts), "test");
    if (!mean) return std::nullopt;
    scores.test = mean->value();
  }
  return scores;
}

json score_report(const Scores& scores, const TrainingFigures& figures) {
  json result = {{"valid_perplexity", perplexity(scores.valid)},
                 {"valid_loss", scores.valid},
                 {"test_perplexity", nullptr},
                 {"test_loss", nullptr},
                 {"best_valid_perplexity", perplexity(*figures.best_validation())}};
  if (scores.test) {
    result["test_perplexity"] = perplexity(*scores.test);
    result["test_loss"] = *scores.test;
  }
  return result;
}

void print_summary(const json& report, Device device) {
  const auto print = [](const std::string& line) { print_line(stdout, line); };
  print(fmt::format("valid perplexity {:>14.2f}", report["valid_perplexity"].get<double>()));
  if (!report["test_perplexity"].is_null()) {
    print(fmt::format("test perplexity {:>15.2f}", report["test_perplexity"].get<double>()));
  }
  print(fmt::format("tokens per second {:>13.0f}\n", report["tokens_per_second"].get<double>()));
  print_memory_table(device);
}

// A run from the model on.
struct Run {
  std::chrono::steady_clock::time_point start;
  TrainSettings settings;
  Device device;
  int threads = 0;
  const Texts& texts;
  const std::vector<int64_t>& counts;
  const CheckpointFolder* folder = nullptr;

  bool resuming() const { return settings.run.resume && folder != nullptr && folder->has_latest(); }
  TrainOutcome operator()(MemoryWatch& watch) const;
};

TrainOutcome Run::operator()(MemoryWatch& watch) const {
  const LanguageModelOptions options = model_options(settings, texts.train.vocabulary);
  check_lengths(settings, texts);
  const ColumnBatches train_batches = train_columns(settings, texts);
  const int64_t steps = total_steps(settings, train_batches);
  const auto schedule = parse_schedule(settings.run.schedule, steps);
  LanguageModel model(options, settings.run.seed, device,
                      needs_counts(settings.model.softmax) ? counts : std::vector<int64_t>());
  Optimizer optimizer = make_optimizer(settings.optimizer, settings.run.seed);
  json memory_plan = json::object();
  if (settings.optimizer.memory.empty()) {
    add_parameters(optimizer, model, sketched_tables(model, settings.sketch_tables),
                   settings.optimizer);
  } else {
    memory_plan = add_parameters_within(optimizer, model, table_uses(settings, model, counts),
                                        settings.optimizer, say);
  }
  watch.describe(optimizer);

  LanguageModelTask task(model, texts.train.vocabulary, train_batches,
                         valid_columns(settings, texts, settings.valid_limit),
                         identity(settings, texts, options));
  MetricsLog metrics;
  TrainerOptions training =
      trainer_options(settings.run, steps, *settings.optimizer.learning_rate, device, start);
  training.profile = watch.profile();
  Trainer trainer(task, optimizer, *schedule, training, metrics, folder);
  const bool resuming = this->resuming();
  if (resuming) resume(trainer, *folder, settings.run, steps, device, say);
  // It empties the file, so only where nothing of the above has failed.
  metrics = open_metrics(settings.run, resuming, trainer);
  if (!trainer.run()) return {};
  watch.begin("scores");
  const std::optional<Scores> scores = score(settings, texts, model, trainer.figures());
  if (!scores) return {};

  json report = to_json(settings);
  report["vocabulary"] = options.vocabulary;
  report["threads"] = threads;
  report.update(
      training_report(trainer.figures(), task.steps_per_epoch(), "tokens", [](double loss) {
        return json{{"perplexity", perplexity(loss)}};
      }));
  report.update(memory_plan);
  report.update(memory_report(optimizer, device));
  report.update(telemetry_report(trainer, settings.run));
  report.update(score_report(*scores, trainer.figures()));
  report["seconds"] = trainer.elapsed_seconds();
  return {true, std::move(report)};
}

TrainSettings for_trace(TrainSettings settings) {
  settings.run = apps::for_trace(std::move(settings.run));
  return settings;
}

// Traces of runs over texts that have been read.
class TextPlanner : public RunPlanner {
 public:
  TextPlanner(TrainSettings settings, const Texts& texts, const std::vector<int64_t>& counts)
      : settings_(for_trace(std::move(settings))), texts_(texts), counts_(counts) {}

  int64_t batch() const override { return settings_.batch; }
  int64_t most() const override { return texts_.train.ids.size() / 2; }
  PlannedRun plan(int64_t batch) const override {
    Run run{std::chrono::steady_clock::now(), settings_, kCpu, 0, texts_, counts_};
    run.settings.batch = batch;
    const int64_t steps = total_steps(run.settings, train_columns(run.settings, texts_));
    run.settings.steps = traced_steps(steps, batch * run.settings.bptt);
    return trace_run(run.settings.run, [&](MemoryWatch& watch) { return run(watch).finished; });
  }

 private:
  TrainSettings settings_;
  const Texts& texts_;
  const std::vector<int64_t>& counts_;
};

// What a plan reads before.
struct PlannerInputs {
  explicit PlannerInputs(TrainSettings& settings)
      : compute(apps::for_trace(settings.run).compute),
        texts(read_texts(settings)),
        counts(word_counts(settings, texts.train)) {
    choose_softmax(settings, counts, "", compute.device());
  }
  Compute compute;
  Texts texts;
  std::vector<int64_t> counts;
};

class Planner final : private PlannerInputs, public TextPlanner {
 public:
  explicit Planner(TrainSettings settings)
      : PlannerInputs(settings), TextPlanner(std::move(settings), texts, counts) {}
};

std::string advice_of(const Run& run, int64_t available) {
  const auto planner = [&run](const TrainSettings& settings) {
    return std::make_unique<TextPlanner>(settings, run.texts, run.counts);
  };
  AdvisedRun advised = advised_run(run.settings, planner);
  if (run.settings.model.softmax.softmax == "full") {
    advised.others.push_back([&] {
      TrainSettings settings = run.settings;
      settings.model.softmax.softmax = "sampled";
      return Proposal{"--softmax sampled", planner(settings)->plan(settings.batch)};
    });
  }
  return memory_advice(advised, available);
}

}  // namespace

TrainOutcome train(TrainSettings settings) {
  const auto start = std::chrono::steady_clock::now();
  const Compute compute(settings.run.compute);
  check_files(settings.run,
              named_paths("--config", config_files(settings.run.arguments, "lm")) +
                  named_paths("--train", settings.train) +
                  std::vector<NamedPath>{{"--valid", settings.valid}, {"--test", settings.test}});
  const std::optional<CheckpointFolder> folder = open_folder(settings.run);
  const Texts texts = read_texts(settings);
  const std::vector<int64_t> counts = word_counts(settings, texts.train);
  Run run{start,  std::move(settings),        compute.device(), compute.threads(), texts,
          counts, folder ? &*folder : nullptr};
  choose_softmax(run.settings, counts, run.resuming() ? folder->latest() : "", compute.device());
  MemoryWatch watch(run.settings.run, compute.device());
  TrainOutcome outcome;
  try {
    outcome = run(watch);
  } catch (const OutOfMemory& error) {
    const int64_t available = watch.available();
    watch.close();
    say("out of memory; looking for settings that fit");
    throw_with_advice(error, [&] { return advice_of(run, available); });
  }
  if (!outcome.finished) return outcome;
  print_summary(outcome.report, compute.device());
  write_results(run.settings.run, outcome.report, watch);
  return outcome;
}

std::unique_ptr<RunPlanner> make_planner(TrainSettings settings) {
  return std::make_unique<Planner>(std::move(settings));
}

}  // namespace sketchgrad::apps::lm
