#include "sketchgrad/apps/lm/settings.h"

#include <fmt/format.h>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/numbers.h"

namespace sketchgrad::apps::lm {

namespace {

// A size that is at least 1, and small enough for products of two to stay in range.
const CLI::Validator kSize = whole_in(1, int64_t{1} << 24);

void add_data_options(CLI::App& command, TrainSettings& settings) {
  command
      .add_option(
          "--train", settings.train,
          "training text, a sentence or paragraph a line; plain, .xz or .gz. Several files, "
          "also by several --train, follow each other")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->required();
  command.add_option("--valid", settings.valid, "validation text")->required();
  command.add_option("--test", settings.test, "test text, scored once at the end");
  command
      .add_option("--vocab-min", settings.vocabulary.min_count,
                  "words that stand fewer times in the training text become <unk>")
      ->check(whole_from(0))
      ->capture_default_str();
  command
      .add_option("--vocab-limit", settings.vocabulary.most_words,
                  "different words held while counting, about 100 bytes each; beyond, the rarest "
                  "are dropped")
      ->check(whole_in(2, int64_t{1} << 30))
      ->capture_default_str();
  command.add_option("--cache", settings.cache,
                     "folder for vocabulary and ids; none: ids go to a file in TMPDIR that is gone "
                     "after the run [.sketchgrad-cache beside each text]");
  command
      .add_option("--valid-limit", settings.valid_limit,
                  "tokens of the validation text that are scored during training; 0: all. The last "
                  "score always takes all")
      ->check(whole_from(0))
      ->capture_default_str();
}

void add_model_options(CLI::App& command, LanguageModelOptions& model) {
  const auto size = [&](const char* name, int64_t& value, const char* help) {
    command.add_option(name, value, help)->check(kSize)->capture_default_str();
  };
  size("--embedding-dim", model.embedding_dim, "width of the embedding");
  size("--hidden", model.hidden, "LSTM cells a layer");
  size("--layers", model.layers, "LSTM layers");
  command.add_option("--projection", model.projection, "width of the LSTM's output; 0: --hidden")
      ->check(whole_in(0, int64_t{1} << 24))
      ->capture_default_str();
  command
      .add_option("--dropout", model.dropout,
                  "probability, below 1: of the embedding, between layers, of the output")
      ->check(real_in(0.0, 1.0))
      ->capture_default_str();
  command.add_flag("--tie,!--no-tie", model.tie,
                   "one table for embedding and output " + default_of(model.tie));
  command
      .add_option(
          "--init-range", model.init_range,
          "the output table starts uniform in [-RANGE, RANGE], the LSTM in 1/sqrt(--hidden)")
      ->check(not_negative())
      ->capture_default_str();
  command
      .add_option(
          "--embedding-range", model.embedding_range,
          "the embedding starts uniform in [-RANGE, RANGE]; with --tie --init-range holds. A "
          "small range of either keeps the model at word frequencies for long")
      ->check(not_negative())
      ->capture_default_str();
  add_options(command, model.softmax);
}

void add_length_options(CLI::App& command, TrainSettings& settings) {
  const auto size = [&](const char* name, int64_t& value, const char* help) {
    command.add_option(name, value, help)->check(kSize)->capture_default_str();
  };
  size("--bptt", settings.bptt, "tokens a column in one step");
  size("--batch", settings.batch, "columns side by side");
  size("--eval-batch", settings.eval_batch, "columns of validation and test");
  size("--epochs", settings.epochs, "passes over the training text");
  command.add_option("--steps", settings.steps, "steps in all; wins over --epochs")
      ->check(whole_from(1));
}

}  // namespace

void add_options(CLI::App& command, TrainSettings& settings) {
  command.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_data_options(command, settings);
  add_model_options(command, settings.model);
  add_length_options(command, settings);
  command
      .add_option("--sketch-tables", settings.sketch_tables,
                  "tables whose moments go to --moment1 and --moment2: embedding, output or both; "
                  "everything else keeps dense state")
      ->check(CLI::IsMember({"embedding", "output", "both"}))
      ->capture_default_str();
  apps::add_options(command, settings.optimizer);
  apps::add_options(command, settings.run);
  command.final_callback([&] { check_flags(command, settings.model.softmax); });
}

void complete(TrainSettings& settings) {
  check(settings.model.dropout < 1.0, "--dropout: {} must be below 1", settings.model.dropout);
  check_together(settings.run);
  apps::complete(settings.optimizer);
  check(settings.optimizer.memory.empty() || settings.sketch_tables == "both",
        "--sketch-tables: --optimizer-memory is for the state of all parameters");
}

nlohmann::json identity_of(const TrainSettings& settings) {
  // How it is validated counts, too: the schedule and the figures of a finished run hang on it.
  nlohmann::json result = {{"vocab_min", settings.vocabulary.min_count},
                           {"valid_limit", settings.valid_limit},
                           {"eval_batch", settings.eval_batch},
                           {"eval_every", settings.run.eval_every},
                           {"bptt", settings.bptt},
                           {"batch", settings.batch},
                           {"sketch_tables", settings.sketch_tables},
                           {"seed", settings.run.seed},
                           {"clip", settings.run.clip},
                           {"schedule", settings.run.schedule}};
  result.update(nlohmann::json(settings.model));
  result.update(apps::to_json(settings.optimizer));
  return result;
}

nlohmann::json to_json(const TrainSettings& settings) {
  nlohmann::json result = identity_of(settings);
  result.update({{"train", settings.train},
                 {"valid", settings.valid},
                 {"test", settings.test},
                 {"vocab_limit", settings.vocabulary.most_words},
                 {"threads", settings.run.compute.threads},
                 {"device", settings.run.compute.device},
                 {"precision", settings.run.compute.precision}});
  return result;
}

}  // namespace sketchgrad::apps::lm
