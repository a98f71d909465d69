#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/compute.h"
#include "sketchgrad/optim/optimizer.h"

// Flags that the applications share.
namespace sketchgrad::apps {

// What is not set is chosen by complete().
struct OptimizerOptions {
  std::string optimizer = "adam";  // a name of kRules in options.cpp
  std::string moment1 = "dense";   // as parse_memory reads it
  std::string moment2 = {};        // empty: the rule's own
  std::optional<double> learning_rate;
  std::optional<double> beta1;
  std::optional<double> beta2;
  std::optional<double> epsilon;
  std::optional<double> initial_accumulator;
  std::optional<double> momentum;
  bool nesterov = false;
  double weight_decay = 0;
  bool decay_skipped = false;  // Moments::decay_skipped, of the tables
  std::string memory = {};     // as parse_bytes reads it: what all state keeps to; empty: no budget
};

struct RunOptions {
  uint64_t seed = 1;
  ComputeOptions compute;
  std::string schedule = "constant";
  double clip = 1;         // 0: none
  std::string checkpoint;  // folder; empty: none
  bool resume = false;
  std::string on_oom = "fail";
  std::string report;                       // empty: none
  std::string metrics;                      // empty: none
  int64_t checkpoint_every = 0;             // steps; 0: only after validations
  int64_t eval_every = 0;                   // steps; 0: epochs
  int64_t log_every = 50;                   // steps
  int64_t telemetry_rows = 0;               // of each table with a sketch; 0: none
  std::string memory_profile;               // folder; empty: none
  std::string memory_limit;                 // as parse_bytes reads it; empty: none
  std::vector<std::string> arguments = {};  // of the command line, for the profile
};

void add_options(CLI::App& command, OptimizerOptions& options);
// The rule and its settings, without the memories of its moments.
void add_rule_options(CLI::App& command, OptimizerOptions& options);
void add_options(CLI::App& command, RunOptions& options);

// Throws InvalidArgument for settings that do not go together.
void check_together(const RunOptions& options);

// Fills in what the rule takes by default. Throws InvalidArgument for a setting that the rule does
// not have.
void complete(OptimizerOptions& options);
// Of completed options; only what the rule has.
nlohmann::json to_json(const OptimizerOptions& options);

// Of completed options. Parameters added without moments of their own get dense state (of sm3, the
// second moment that the options mean), but no first moment where moment1 is "none".
Optimizer make_optimizer(const OptimizerOptions& options, uint64_t seed);
// The memories of the tables that the options mean, where they name no budget.
Moments table_moments(const OptimizerOptions& options);
// parse_memory of a flag's value: messages begin with the flag.
MemorySpec memory_of(const std::string& flag, const std::string& text, MomentRole role);

// A number with or without one of the units B, KB, MB, GB (of 1000), KiB, MiB, GiB (of 1024).
// Throws InvalidArgument with the flag's name for anything else.
int64_t parse_bytes(const std::string& flag, const std::string& text);
// For CLI::Option::check, which names the flag: that parse_bytes takes it.
std::string check_bytes(const std::string& text);

}  // namespace sketchgrad::apps
