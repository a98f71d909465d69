#include "sketchgrad/apps/common/options.h"

#include <fmt/ranges.h>

#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/optim/adagrad.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/optim/momentum.h"
#include "sketchgrad/optim/rmsprop.h"
#include "sketchgrad/optim/sgd.h"
#include "sketchgrad/optim/sm3.h"

namespace sketchgrad::apps {

namespace {

float value_of(const std::optional<double>& setting) { return static_cast<float>(*setting); }

Optimizer make_sgd(const OptimizerOptions& options, uint64_t seed) {
  return Optimizer(Sgd{.learning_rate = value_of(options.learning_rate)}, seed);
}

Optimizer make_momentum(const OptimizerOptions& options, uint64_t seed) {
  return Optimizer(Momentum{.learning_rate = value_of(options.learning_rate),
                            .momentum = value_of(options.momentum),
                            .nesterov = options.nesterov},
                   seed);
}

Optimizer make_adagrad(const OptimizerOptions& options, uint64_t seed) {
  return Optimizer(Adagrad{.learning_rate = value_of(options.learning_rate),
                           .epsilon = value_of(options.epsilon),
                           .initial_accumulator = value_of(options.initial_accumulator)},
                   seed);
}

Optimizer make_rmsprop(const OptimizerOptions& options, uint64_t seed) {
  return Optimizer(Rmsprop{.learning_rate = value_of(options.learning_rate),
                           .decay = value_of(options.beta2),
                           .epsilon = value_of(options.epsilon)},
                   seed);
}

Optimizer make_adam(const OptimizerOptions& options, uint64_t seed) {
  Adam adam{.learning_rate = value_of(options.learning_rate),
            .beta1 = value_of(options.beta1),
            .beta2 = value_of(options.beta2),
            .epsilon = value_of(options.epsilon),
            .weight_decay = static_cast<float>(options.weight_decay)};
  if (options.moment1 == "none") adam.first = None{};
  return Optimizer(adam, seed);
}

Optimizer make_sm3(const OptimizerOptions& options, uint64_t seed) {
  // Parameters that are in no memory of their own have bounds as well, or dense state.
  const MemorySpec second = table_moments(options).second;
  return Optimizer(Sm3{.learning_rate = value_of(options.learning_rate),
                       .momentum = value_of(options.momentum),
                       .epsilon = value_of(options.epsilon),
                       .second = std::holds_alternative<Sm3Covers>(second) ? second : Dense{}},
                   seed);
}

// What a rule has, and what it takes where nothing is said. Settings that a rule does not name it
// does not have. Names and defaults in the help texts and messages come from here.
struct Rule {
  const char* name;
  Optimizer (*make)(const OptimizerOptions& options, uint64_t seed);  // of completed options
  std::optional<double> learning_rate;
  std::optional<double> beta1 = std::nullopt;
  std::optional<double> beta2 = std::nullopt;
  std::optional<double> epsilon = std::nullopt;
  std::optional<double> initial_accumulator = std::nullopt;
  std::optional<double> momentum = std::nullopt;
  bool nesterov = false;
  bool weight_decay = false;
  bool first_moment = false;            // kept where the momentum is not 0
  const char* second_moment = nullptr;  // its memory unless given; null: there is none
};

constexpr Rule kRules[] = {
    {.name = "sgd", .make = make_sgd, .learning_rate = 1.0},
    {.name = "momentum",
     .make = make_momentum,
     .learning_rate = 0.5,
     .momentum = 0.9,
     .nesterov = true,
     .first_moment = true},
    {.name = "adagrad",
     .make = make_adagrad,
     .learning_rate = 0.1,
     .epsilon = 1e-10,
     .initial_accumulator = 0.0,
     .second_moment = "dense"},
    {.name = "rmsprop",
     .make = make_rmsprop,
     .learning_rate = 0.002,
     .beta2 = 0.99,
     .epsilon = 1e-8,
     .second_moment = "dense"},
    {.name = "adam",
     .make = make_adam,
     .learning_rate = 0.002,
     .beta1 = 0.9,
     .beta2 = 0.999,
     .epsilon = 1e-8,
     .weight_decay = true,
     .first_moment = true,
     .second_moment = "dense"},
    {.name = "sm3",
     .make = make_sm3,
     .learning_rate = 0.1,
     .epsilon = 0.0,
     .momentum = 0.0,
     .first_moment = true,
     .second_moment = "sm3"},
};

// "sgd, momentum, ..."
std::string rule_names() {
  std::vector<const char*> names;
  for (const Rule& rule : kRules) names.push_back(rule.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

// "[rmsprop 0.99, adam 0.999]": the rules that have a setting, with their defaults.
std::string defaults_of(std::optional<double> Rule::*setting) {
  std::vector<std::string> texts;
  for (const Rule& rule : kRules) {
    if (rule.*setting) texts.push_back(fmt::format("{} {:g}", rule.name, *(rule.*setting)));
  }
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

const Rule& rule_named(const std::string& name) {
  for (const Rule& rule : kRules) {
    if (rule.name == name) return rule;
  }
  throw InvalidArgument(
      fmt::format("--optimizer: unknown rule '{}'; known are {}", name, rule_names()));
}

void fill(std::optional<double>& value, const std::optional<double>& fallback,
          const std::string& flag, const std::string& rule) {
  check(fallback || !value, "{}: {} has no such setting", flag, rule);
  if (!value) value = fallback;
}

void check_moment(const std::string& memory, bool present, const std::string& flag,
                  const std::string& rule) {
  check(present || memory.empty() || memory == "dense", "{}: {} has no such moment", flag, rule);
}

void add_memory_options(CLI::App& command, OptimizerOptions& options) {
  const std::string sketch =
      "sketch:RATIO[,depth=N][,width=N][,reading=NAME][,cells=bf16]; banded:RATIO for "
      "sketch:RATIO: neighbouring rows share buckets, for ids by falling frequency; "
      "hybrid:RATIO[,exact=SHARE]: "
      "the heaviest rows are kept exactly, in half of the bytes or SHARE of them";
  command
      .add_option(
          "--moment1", options.moment1,
          "memory of the first moment: dense, none (beta1 = 0), bf16, int8, rank1, rank1:l2 or " +
              sketch)
      ->capture_default_str();
  command.add_option("--moment2", options.moment2,
                     "memory of the second moment: dense, bf16, int8, rowwise, rank1, rank1:l2, "
                     "sm3, sm3:1 or " +
                         sketch + "; [,clean=ALPHA/STEPS] [dense; of the rule sm3: sm3]");
  command.add_flag(
      "--decay-skipped", options.decay_skipped,
      "rows of the tables that steps left out decay by as many steps when they come "
      "again, in 4 bytes a row; otherwise they go on as they were. Not of sm3, nor of the "
      "readings linear and bucket_local");
  command.add_option(
      "--optimizer-memory", options.memory,
      "bytes for the state of all parameters, as 500MB or 2GiB: chooses the memories of both "
      "moments from how often rows are used, and prints them; in the place of --moment1 and "
      "--moment2");
}

void add_file_options(CLI::App& command, RunOptions& options) {
  command.add_option("--checkpoint", options.checkpoint,
                     "folder for latest.safetensors and best.safetensors");
  command.add_flag("--resume", options.resume,
                   "go on from the folder's latest checkpoint, if there is one");
  command
      .add_option("--checkpoint-every", options.checkpoint_every,
                  "steps between checkpoints; 0: after each validation only")
      ->check(whole_from(0))
      ->capture_default_str();
  command.add_option("--report", options.report, "JSON file for settings and results");
  command.add_option("--metrics", options.metrics, "file for the course of training, JSON lines");
  command.add_option("--log-every", options.log_every, "steps between lines of --metrics")
      ->check(whole_from(1))
      ->capture_default_str();
  command
      .add_option(
          "--telemetry-rows", options.telemetry_rows,
          "rows of each table with a sketch, drawn among those that were ever active, whose "
          "exact state is kept beside, so that lines of --metrics and the report tell the "
          "sketches' relative l2 error over them; 0: none")
      ->check(whole_in(0, int64_t{1} << 24))
      ->capture_default_str();
  command.add_option("--memory-profile", options.memory_profile,
                     "folder for a profile of the memory, which `memory report` explains");
  command
      .add_option("--memory-limit", options.memory_limit,
                  "bytes that the device's arrays may take, as 500MB or 2GiB; an array beyond "
                  "ends the run as if the device had no more")
      ->check(check_bytes);
}

}  // namespace

void add_rule_options(CLI::App& command, OptimizerOptions& options) {
  command.add_option("--optimizer", options.optimizer, "the rule: " + rule_names())
      ->capture_default_str();
  command
      .add_option("--learning-rate", options.learning_rate,
                  "step size " + defaults_of(&Rule::learning_rate))
      ->check(positive());
  command
      .add_option("--beta1", options.beta1,
                  "decay of the first moment a step " + defaults_of(&Rule::beta1))
      ->check(real_in(0.0, 1.0));
  command
      .add_option("--beta2", options.beta2,
                  "decay of the second moment a step " + defaults_of(&Rule::beta2))
      ->check(real_in(0.0, 1.0));
  command
      .add_option("--epsilon", options.epsilon,
                  "added to the root of the second moment " + defaults_of(&Rule::epsilon))
      ->check(not_negative());
  command
      .add_option("--initial-accumulator", options.initial_accumulator,
                  "what the second moment begins with " + defaults_of(&Rule::initial_accumulator))
      ->check(not_negative());
  command
      .add_option("--momentum", options.momentum,
                  "decay of the momentum a step, below 1 " + defaults_of(&Rule::momentum))
      ->check(real_in(0.0, 1.0));
  command.add_flag("--nesterov,!--no-nesterov", options.nesterov,
                   "Nesterov's momentum " + default_of(options.nesterov));
  command
      .add_option("--weight-decay", options.weight_decay,
                  "decoupled decay (AdamW), times the learning rate a step")
      ->check(not_negative())
      ->capture_default_str();
}

void add_options(CLI::App& command, OptimizerOptions& options) {
  add_rule_options(command, options);
  add_memory_options(command, options);
}

void add_options(CLI::App& command, RunOptions& options) {
  command
      .add_option("--schedule", options.schedule,
                  "of the learning rate: constant, linear, cosine[:WARMUP_STEPS] or "
                  "plateau[:MULTIPLIER[,VALIDATIONS]]")
      ->capture_default_str();
  command
      .add_option("--clip", options.clip, "largest global norm of the gradients; 0: no clipping")
      ->check(not_negative())
      ->capture_default_str();
  command.add_option("--seed", options.seed, "of initial values, masks and hashes")
      ->check(any_seed())
      ->capture_default_str();
  command
      .add_option(
          "--on-oom", options.on_oom,
          "where a step finds no memory before it has changed anything: fail, with the report, "
          "or fold the sketches to half of their buckets and begin the step anew")
      ->check(CLI::IsMember({"fail", "fold"}))
      ->capture_default_str();
  add_options(command, options.compute);
  command
      .add_option("--eval-every", options.eval_every, "steps between validations; 0: each epoch")
      ->check(whole_from(0))
      ->capture_default_str();
  add_file_options(command, options);
}

void check_together(const RunOptions& options) {
  check(!options.resume || !options.checkpoint.empty(),
        "--resume needs --checkpoint, the folder to go on from");
  check(options.checkpoint_every == 0 || !options.checkpoint.empty(),
        "--checkpoint-every needs --checkpoint, the folder to write to");
}

void complete(OptimizerOptions& options) {
  const Rule& rule = rule_named(options.optimizer);
  check_moment(options.moment1, rule.first_moment, "--moment1", options.optimizer);
  check_moment(options.moment2, rule.second_moment != nullptr, "--moment2", options.optimizer);
  if (options.moment2.empty()) {
    options.moment2 = rule.second_moment != nullptr ? rule.second_moment : "dense";
  }
  fill(options.learning_rate, rule.learning_rate, "--learning-rate", options.optimizer);
  const bool without_first = rule.first_moment && options.moment1 == "none";
  check(!without_first || options.beta1.value_or(0.0) == 0.0,
        "--moment1: none keeps no first moment, so --beta1 must be 0, it is {}",
        options.beta1.value_or(0.0));
  fill(options.beta1, rule.beta1, "--beta1", options.optimizer);
  fill(options.beta2, rule.beta2, "--beta2", options.optimizer);
  fill(options.epsilon, rule.epsilon, "--epsilon", options.optimizer);
  fill(options.initial_accumulator, rule.initial_accumulator, "--initial-accumulator",
       options.optimizer);
  fill(options.momentum, rule.momentum, "--momentum", options.optimizer);
  check(!options.nesterov || rule.nesterov, "--nesterov: {} has no such setting",
        options.optimizer);
  check(options.weight_decay == 0 || rule.weight_decay, "--weight-decay: {} has no such setting",
        options.optimizer);
  for (const auto& [flag, value] :
       {std::pair("--beta1", options.beta1), std::pair("--beta2", options.beta2),
        std::pair("--momentum", options.momentum)}) {
    check(!value || *value < 1.0, "{}: {} must be below 1", flag, value.value_or(0.0));
  }
  if (without_first && options.beta1) options.beta1 = 0.0;
  check(options.moment1 != "none" || options.momentum.value_or(0.0) == 0.0,
        "--moment1: none keeps no first moment, so --momentum must be 0, it is {}",
        options.momentum.value_or(0.0));
  if (rule.first_moment && options.momentum == 0.0) {
    check(options.moment1 == "dense" || options.moment1 == "none",
          "--moment1: {} without momentum keeps no first moment", options.optimizer);
    options.moment1 = "none";
  }
  check(options.moment2 != "none", "--moment2: {} needs a memory", options.optimizer);
  check(
      !options.decay_skipped || (rule.beta1 || rule.beta2 || options.momentum.value_or(0.0) > 0.0),
      "--decay-skipped: {} keeps nothing that decays", options.optimizer);
  if (!options.memory.empty()) {
    check(!options.decay_skipped, "--decay-skipped cannot stand beside --optimizer-memory");
    parse_bytes("--optimizer-memory", options.memory);
    const char* const second = rule.second_moment != nullptr ? rule.second_moment : "dense";
    check((options.moment1 == "dense" || options.moment1 == "none") && options.moment2 == second,
          "--optimizer-memory chooses the memories: --moment1 {} and --moment2 {} cannot stand "
          "beside it",
          options.moment1, options.moment2);
  }
  table_moments(options);
}

nlohmann::json to_json(const OptimizerOptions& options) {
  const Rule& rule = rule_named(options.optimizer);
  nlohmann::json result = {{"optimizer", options.optimizer}};
  const auto put = [&](const char* name, const std::optional<double>& value) {
    if (value) result[name] = *value;
  };
  put("learning_rate", options.learning_rate);
  put("beta1", options.beta1);
  put("beta2", options.beta2);
  put("epsilon", options.epsilon);
  put("initial_accumulator", options.initial_accumulator);
  put("momentum", options.momentum);
  if (!options.memory.empty()) {
    result["optimizer_memory"] = parse_bytes("--optimizer-memory", options.memory);
  } else {
    const Moments moments = table_moments(options);
    if (rule.first_moment) result["moment1"] = to_string(moments.first);
    if (rule.second_moment != nullptr) result["moment2"] = to_string(moments.second);
  }
  if (options.decay_skipped) result["decay_skipped"] = true;
  if (rule.nesterov) result["nesterov"] = options.nesterov;
  if (rule.weight_decay) result["weight_decay"] = options.weight_decay;
  return result;
}

Moments table_moments(const OptimizerOptions& options) {
  return {.first = memory_of("--moment1", options.moment1, MomentRole::first),
          .second = memory_of("--moment2", options.moment2, MomentRole::second),
          .decay_skipped = options.decay_skipped};
}

MemorySpec memory_of(const std::string& flag, const std::string& text, MomentRole role) {
  try {
    return parse_memory(text, role);
  } catch (const InvalidArgument& error) {
    constexpr std::string_view kOperation = "[memory] ";
    const std::string_view problem = error.what();
    throw InvalidArgument(fmt::format(
        "{}: {}", flag, problem.substr(problem.starts_with(kOperation) ? kOperation.size() : 0)));
  }
}

Optimizer make_optimizer(const OptimizerOptions& options, uint64_t seed) {
  return rule_named(options.optimizer).make(options, seed);
}

std::string check_bytes(const std::string& text) {
  try {
    parse_bytes("", text);
    return {};
  } catch (const InvalidArgument& error) {
    return std::string(error.what()).substr(2);  // behind the flag's name, which is empty
  }
}

int64_t parse_bytes(const std::string& flag, const std::string& text) {
  struct Unit {
    const char* name;
    double bytes;
  };
  constexpr Unit kUnits[] = {{"", 1},     {"B", 1},        {"KB", 1e3},     {"MB", 1e6},
                             {"GB", 1e9}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}};
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc()) {
    for (const Unit& unit : kUnits) {
      const double bytes = number * unit.bytes;
      if (bytes >= 1 && bytes < 0x1p63 &&
          std::string_view(rest, static_cast<size_t>(end - rest)) == unit.name) {
        return static_cast<int64_t>(bytes);
      }
    }
  }
  throw InvalidArgument(fmt::format("{}: {} is no number of bytes, as 500MB or 2GiB", flag, text));
}

}  // namespace sketchgrad::apps
