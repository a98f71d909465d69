#include "sketchgrad/tools/sketch_error/study.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "sketchgrad/apps/common/batches.h"
#include "sketchgrad/apps/common/corpus.h"
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/progress.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/layers/full_softmax.h"
#include "sketchgrad/layers/lstm.h"
#include "sketchgrad/optim/clip.h"
#include "sketchgrad/optim/memory_study.h"

namespace sketchgrad::sketch_error {

namespace {

using nlohmann::json;
using namespace sketchgrad::apps;

const CLI::Validator kSize = whole_in(1, int64_t{1} << 24);

class Model : public Module {
 public:
  Model(const StudySettings& settings, int64_t words, Device device)
      : rng_(settings.seed),
        embedding_("embedding", {.rows = words, .dim = settings.embedding_dim}, rng_, device),
        lstm_("lstm", {settings.embedding_dim, settings.hidden}, rng_, device),
        output_("output", {.input = settings.hidden, .classes = words}, rng_, nullptr, device),
        state_(lstm_.zero_state(settings.batch)) {
    add_child(embedding_);
    add_child(lstm_);
    add_child(output_);
  }

  void begin_epoch(int64_t batch) { state_ = lstm_.zero_state(batch); }
  Variable loss(Tape& tape, const Segment& segment) {
    const Variable features = lstm_.forward(tape, embedding_.forward(tape, segment.inputs), state_);
    return output_.loss(tape, features, segment.targets.reshape({-1}));
  }

  std::vector<Parameter*> tables(const std::string& which) {
    std::vector<Parameter*> result;
    if (which != "output") result.push_back(&embedding_.weight());
    if (which != "embedding") result.push_back(&output_.weight());
    return result;
  }

 private:
  Rng rng_;
  Embedding embedding_;
  Lstm lstm_;
  FullSoftmax output_;
  LstmState state_;
};

// One moment of one table with its memories.
struct Studied {
  std::string table;
  int64_t rows;
  MomentRole role;
  MemoryStudy study;
};

std::vector<Studied> make_studies(const StudySettings& settings, Model& model,
                                  const Optimizer& optimizer) {
  std::vector<Studied> result;
  for (Parameter* table : model.tables(settings.tables)) {
    for (const MomentRole role : {MomentRole::first, MomentRole::second}) {
      std::vector<MemorySpec> memories;
      for (const std::string& text :
           role == MomentRole::first ? settings.memories1 : settings.memories2) {
        memories.push_back(
            memory_of(role == MomentRole::first ? "--memory1" : "--memory2", text, role));
      }
      if (memories.empty()) continue;
      result.push_back({table->name, table->value.size(0), role,
                        MemoryStudy(optimizer, *table, role, memories, settings.heavy)});
    }
  }
  return result;
}

// `rows`: of how many; null where it is of nothing.
json error_json(const StateError& error, int64_t rows) {
  json absolute = nullptr, relative = nullptr;
  if (rows > 0) absolute = error.absolute;
  if (rows > 0 && std::isfinite(error.relative)) relative = error.relative;
  return {{"absolute", absolute}, {"relative", relative}};
}

void write_errors(Studied& studied, int64_t heavy, int64_t step, double loss,
                  const std::function<void(const json&)>& write) {
  const std::vector<MemoryErrors> errors = studied.study.errors();
  const int64_t rows = studied.rows;
  heavy = std::min(heavy, rows);
  for (size_t i = 0; i < errors.size(); ++i) {
    json entry = {{"step", step},
                  {"table", studied.table},
                  {"moment", to_string(studied.role)},
                  {"memory", to_string(studied.study.memories()[i])},
                  {"bytes", studied.study.bytes(i)},
                  {"loss", loss},
                  {"all", error_json(errors[i].all, rows)},
                  {"heavy", error_json(errors[i].heavy, heavy)},
                  {"rare", error_json(errors[i].rare, rows - heavy)}};
    if (errors[i].mean_load) {
      entry["mean_load"] = *errors[i].mean_load;
      entry["largest_load"] = *errors[i].largest_load;
    }
    write(entry);
  }
}

}  // namespace

void add_options(CLI::App& command, StudySettings& settings) {
  command.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  command
      .add_option("--train", settings.train,
                  "training text, plain, .xz or .gz; several files follow each other")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->required();
  command
      .add_option("--output", settings.output,
                  "folder for errors.jsonl and errors.svg; both are replaced")
      ->required();
  command
      .add_option("--memory1", settings.memories1,
                  "memories of the first moment to study, as --moment1 of lm train has them; may "
                  "stand several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      .add_option("--memory2", settings.memories2,
                  "memories of the second moment to study, as --moment2 of lm train has them")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--tables", settings.tables, "embedding, output or both")
      ->check(CLI::IsMember({"embedding", "output", "both"}))
      ->capture_default_str();
  command
      .add_option("--heavy", settings.heavy,
                  "the most frequent words, whose errors are told apart from the others'")
      ->check(whole_from(0))
      ->capture_default_str();
  const auto size = [&](const char* name, int64_t& value, const char* help) {
    command.add_option(name, value, help)->check(kSize)->capture_default_str();
  };
  size("--steps", settings.steps, "of training");
  size("--every", settings.every, "steps from one measurement to the next");
  size("--embedding-dim", settings.embedding_dim, "width of the embedding");
  size("--hidden", settings.hidden, "LSTM cells");
  size("--batch", settings.batch, "columns of text");
  size("--bptt", settings.bptt, "tokens of a column in a step");
  command
      .add_option("--vocab-min", settings.vocabulary.min_count,
                  "words that stand fewer times become <unk>")
      ->check(whole_from(0))
      ->capture_default_str();
  command.add_option("--cache", settings.cache,
                     "folder for vocabulary and ids; none: they are not kept [.sketchgrad-cache "
                     "beside the text]");
  command
      .add_option("--clip", settings.clip, "largest global norm of the gradients; 0: no clipping")
      ->check(not_negative())
      ->capture_default_str();
  command.add_option("--seed", settings.seed, "of initial values")
      ->check(any_seed())
      ->capture_default_str();
  // The state of the run itself is dense.
  apps::add_rule_options(command, settings.optimizer);
  apps::add_options(command, settings.compute);
}

bool study(const StudySettings& settings, const std::function<void(const json& entry)>& write) {
  OptimizerOptions options = settings.optimizer;
  complete(options);
  check(!settings.memories1.empty() || !settings.memories2.empty(),
        "--memory1 and --memory2: there is no memory to study");
  const Compute compute(settings.compute);
  const CachedReader reader(
      settings.cache, [](const std::string& line) { print_line(stderr, "sketch_error: " + line); });
  const TrainingText text = reader.read_training_text(settings.train, settings.vocabulary);
  const ColumnBatches batches(text.ids, settings.batch, settings.bptt, /*limit=*/0,
                              fmt::format("--train {}:", fmt::join(settings.train, ", ")));
  Model model(settings, text.vocabulary.size(), compute.device());
  Optimizer optimizer = make_optimizer(options, settings.seed);
  optimizer.add(model.parameters());
  std::vector<Studied> studies = make_studies(settings, model, optimizer);

  const StopSignal stop;
  Progress progress("study", settings.steps);
  for (int64_t step = 1; step <= settings.steps; ++step) {
    if (StopSignal::requested()) return false;
    const int64_t segment = (step - 1) % batches.segments();
    if (segment == 0) model.begin_epoch(settings.batch);
    double loss = 0;
    {
      Tape tape;
      const Variable value = model.loss(tape, batches.segment(segment));
      loss = value.value.item();
      if (!std::isfinite(loss)) {
        throw NumericError(fmt::format("[sketch_error] step {}: the loss is {}", step, loss));
      }
      tape.backward(value);
    }
    if (settings.clip > 0) clip_global_norm(optimizer.parameters(), settings.clip);
    for (Studied& studied : studies) studied.study.step();
    optimizer.step();
    optimizer.clear_gradients();
    if (step % settings.every == 0 || step == settings.steps) {
      for (Studied& studied : studies) write_errors(studied, settings.heavy, step, loss, write);
    }
    if (progress.due()) progress.update(step, fmt::format("loss {:.4f}", loss));
  }
  return true;
}

}  // namespace sketchgrad::sketch_error
