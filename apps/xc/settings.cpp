#include "sketchgrad/apps/xc/settings.h"

#include <fmt/format.h>

#include <charconv>
#include <numeric>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/numbers.h"

namespace sketchgrad::apps::xc {

namespace {

// A size that is at least 1, and small enough for products of two to stay in range.
const CLI::Validator kSize = whole_in(1, int64_t{1} << 24);

void add_mach_options(CLI::App& command, TrainSettings& settings) {
  ClassifierOptions& model = settings.model;
  command.add_option("--repetitions", settings.repetitions, "of mach: meta-classifiers")
      ->check(whole_in(1, 256))
      ->capture_default_str();
  command
      .add_option(
          "--first-repetition", settings.first_repetition,
          "number of the first one. Processes that train repetitions of other numbers train "
          "parts of one model, which `xc merge` joins")
      ->check(whole_in(0, 1 << 20))
      ->capture_default_str();
  command
      .add_option(
          "--train-order", settings.order,
          "together, or one-by-one: a repetition after the other, in the memory of one (the "
          "ranking at the end takes the parameters of all); needs --checkpoint, for a folder "
          "with a checkpoint of each and the joined model")
      ->check(CLI::IsMember({"together", "one-by-one"}))
      ->capture_default_str();
  command.add_option("--buckets", model.buckets, "of mach: meta-classes of a repetition")
      ->check(kSize)
      ->capture_default_str();
  command
      .add_option("--meta-loss", model.meta_loss,
                  "of mach: softmax over buckets, or a sigmoid for each")
      ->check(CLI::IsMember({"softmax", "sigmoid"}))
      ->capture_default_str();
  command.add_flag("--shared-hidden", model.shared_hidden,
                   "of mach: one hidden layer for all repetitions, instead of one for each");
  command.add_flag("--stored-map,!--computed-map", model.stored_map,
                   "of mach: keep the buckets of all classes (4 bytes a repetition and class), or "
                   "compute them whenever they are asked for " +
                       default_of(model.stored_map));
}

void add_model_options(CLI::App& command, TrainSettings& settings) {
  ClassifierOptions& model = settings.model;
  command
      .add_option(
          "--model", model.model,
          "mach: meta-classifiers over hashed classes; or a softmax over all classes: full, "
          "sampled (trained over a sample of the classes), or lsh (over those whose weights "
          "are likely near)")
      ->check(CLI::IsMember({"mach", "full", "sampled", "lsh"}))
      ->capture_default_str();
  command.add_option("--hidden", model.hidden, "hidden units")->check(kSize)->capture_default_str();
  command
      .add_option("--input-range", model.input_range,
                  "the table of input features starts uniform in [-RANGE, RANGE]")
      ->check(not_negative())
      ->capture_default_str();
  add_mach_options(command, settings);
  add_sampling_options(command, model.softmax);
  add_lsh_options(command, model.softmax);
}

void add_length_options(CLI::App& command, TrainSettings& settings) {
  command
      .add_option("--batch", settings.batch,
                  "rows of a step; auto: as many as --memory-budget has room for")
      ->capture_default_str();
  command.add_option("--memory-budget", settings.memory_budget,
                     "for --batch auto: bytes of the whole run, as 2GiB or 500MB");
  command.add_option("--epochs", settings.epochs, "passes over the data")
      ->check(kSize)
      ->capture_default_str();
  command.add_option("--steps", settings.steps, "steps in all; wins over --epochs")
      ->check(whole_from(1));
  command
      .add_option(
          "--feature-dropout", settings.feature_dropout,
          "probability, below 1, that a step leaves a feature of a row out; what is left is "
          "scaled to the row's length. For queries that share only some features with rows "
          "of training")
      ->check(real_in(0.0, 1.0))
      ->capture_default_str();
  command
      .add_option("--valid-limit", settings.valid_limit, "rows of it whose loss is taken; 0: all")
      ->check(whole_from(0))
      ->capture_default_str();
}

// What the kind of model does not have.
void check_flags(const CLI::App& command, const ClassifierOptions& model) {
  const std::string owner = fmt::format("--model {}", model.model);
  check_sampling_flags(command, model.model, owner);
  if (model.is_mach()) return;
  refuse_given(command,
               {"--repetitions", "--first-repetition", "--buckets", "--meta-loss",
                "--shared-hidden", "--stored-map", "--aggregation"},
               owner);
}

}  // namespace

Ranking RankingSettings::ranking() const {
  Ranking result{.best_buckets = best_buckets, .proven = proven};
  result.logarithms = aggregation == "geometric";
  if (!result.logarithms) result.aggregation = parse_mach_aggregation(aggregation);
  return result;
}

void add_options(CLI::App& command, RankingSettings& settings) {
  command
      .add_option("--aggregation", settings.aggregation,
                  "of mach: how the probabilities of a class's buckets make its score: geometric "
                  "(mean, as the mean of their logarithms), mean, min, median, or unbiased (an "
                  "estimate of the class's probability)")
      ->check(CLI::IsMember({"geometric", "mean", "min", "median", "unbiased"}))
      ->capture_default_str();
  command
      .add_option("--best-buckets", settings.best_buckets,
                  "of mach: score only classes in so many of the best buckets of a repetition, by "
                  "an index of 4 bytes a repetition and class; 0: score all classes")
      ->check(whole_from(0))
      ->capture_default_str();
  command.add_flag(
      "--proven", settings.proven,
      "with --best-buckets: rank again, over all classes, the rows whose answer is not "
      "proven to be the exact one");
}

void add_options(CLI::App& command, EvaluationSettings& settings) {
  add_options(command, settings.ranking);
  command.add_option("--eval-batch", settings.batch, "rows of an evaluation at a time")
      ->check(kSize)
      ->capture_default_str();
  command.add_option("--eval-limit", settings.limit, "rows that are ranked at the end; 0: all")
      ->check(whole_from(0))
      ->capture_default_str();
  command
      .add_option("--sampled-ranks", settings.sampled_ranks,
                  "of mach: also rank a row's classes among a random sample of so many others, as "
                  "Spring et al. 2019 (section 6.4) do; 0: not")
      ->check(whole_from(0))
      ->capture_default_str();
  command
      .add_option("--propensity-a", settings.propensity_a,
                  "A of propensities (Jain et al. 2016): 0.5 to 0.6")
      ->check(positive())
      ->capture_default_str();
  command.add_option("--propensity-b", settings.propensity_b, "B of propensities: 0.4 to 2.6")
      ->check(positive())
      ->capture_default_str();
}

void add_options(CLI::App& command, TrainSettings& settings) {
  command.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  settings.run.clip = 0;
  command.add_option("--data", settings.data, "prepared training set (xc prepare)")->required();
  command
      .add_option("--test", settings.test,
                  "test set, prepared --like it: its rows are ranked at the end")
      ->required();
  command.add_option("--valid", settings.valid,
                     "set, prepared --like it, whose loss is taken each epoch; it decides "
                     "best.safetensors and the plateau schedule [the test set]");
  add_model_options(command, settings);
  add_length_options(command, settings);
  add_options(command, settings.evaluation);
  command
      .add_option("--sketch-tables", settings.sketch_tables,
                  "tables whose moments go to --moment1 and --moment2: input, output or both; "
                  "everything else "
                  "keeps dense state")
      ->check(CLI::IsMember({"input", "output", "both"}))
      ->capture_default_str();
  command.add_flag("--plan", settings.plan,
                   "tell the memory that the run would take, in each order of training, and stop");
  apps::add_options(command, settings.optimizer);
  apps::add_options(command, settings.run);
  command.final_callback([&] { check_flags(command, settings.model); });
}

void complete(TrainSettings& settings) {
  ClassifierOptions& model = settings.model;
  check_together(settings.run);
  check(settings.order == "together" || !settings.run.checkpoint.empty() || settings.plan,
        "--train-order one-by-one needs --checkpoint, a folder for the repetitions");
  check(settings.order == "together" || (model.is_mach() && !model.shared_hidden),
        "--train-order one-by-one is for repetitions that share nothing: mach without "
        "--shared-hidden");
  check(settings.feature_dropout < 1, "--feature-dropout: {} must be below 1",
        settings.feature_dropout);
  check((settings.batch != "auto" && !settings.plan) || settings.run.compute.device == "cpu",
        "--plan and --batch auto are of memory on the CPU, --device is {}",
        settings.run.compute.device);
  check(settings.batch != "auto" || !settings.memory_budget.empty(),
        "--batch auto needs --memory-budget, the bytes that there are");
  check(settings.batch == "auto" || settings.memory_budget.empty(),
        "--memory-budget is for --batch auto, --batch is {}", settings.batch);
  if (model.is_mach()) {
    model.repetitions.resize(static_cast<size_t>(settings.repetitions));
    std::iota(model.repetitions.begin(), model.repetitions.end(), settings.first_repetition);
  } else {
    model.softmax.softmax = model.model;
  }
  model.seed = settings.run.seed;
  apps::complete(settings.optimizer);
  check(settings.optimizer.memory.empty() || settings.sketch_tables == "both",
        "--sketch-tables: --optimizer-memory is for the state of all parameters");
}

nlohmann::json identity_of(const TrainSettings& settings, const ClassifierOptions& model,
                           int64_t rows) {
  nlohmann::json result = {{"batch", rows},
                           {"eval_batch", settings.evaluation.batch},
                           {"valid_limit", settings.valid_limit},
                           {"feature_dropout", settings.feature_dropout},
                           {"eval_every", settings.run.eval_every},
                           {"sketch_tables", settings.sketch_tables},
                           {"clip", settings.run.clip},
                           {"schedule", settings.run.schedule}};
  result.update(nlohmann::json(model));
  result.update(apps::to_json(settings.optimizer));
  return result;
}

}  // namespace sketchgrad::apps::xc
