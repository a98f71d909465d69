#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <string>

#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/apps/xc/model.h"

namespace sketchgrad::apps::xc {

// How classes are ranked and scored.
struct RankingSettings {
  std::string aggregation = "geometric";  // or a word of parse_mach_aggregation
  int64_t best_buckets = 0;               // 0: all classes are scored
  bool proven = false;
  Ranking ranking() const;
};
void add_options(CLI::App& command, RankingSettings& settings);

// What an evaluation is told.
struct EvaluationSettings {
  RankingSettings ranking;
  int64_t batch = 256;        // rows
  int64_t limit = 0;          // rows; 0: all
  int64_t sampled_ranks = 0;  // classes of a sample among which ranks are taken; 0: not done
  double propensity_a = 0.55;
  double propensity_b = 1.5;
};
void add_options(CLI::App& command, EvaluationSettings& settings);

// What `xc train` is told.
struct TrainSettings {
  std::string data;
  std::string valid;  // empty: the test set
  std::string test;
  ClassifierOptions model;  // its sizes of input and classes come from the data
  int32_t repetitions = 4;
  int32_t first_repetition = 0;
  std::string order = "together";  // or one-by-one

  std::string batch = "256";  // rows, or auto
  std::string memory_budget;  // as parse_bytes reads it; what --batch auto keeps to
  int64_t epochs = 5;
  int64_t steps = 0;  // 0: epochs count
  int64_t valid_limit = 4096;
  double feature_dropout = 0;
  EvaluationSettings evaluation;

  std::string sketch_tables = "both";  // input, output, both
  OptimizerOptions optimizer;
  RunOptions run;
  bool plan = false;
};

void add_options(CLI::App& command, TrainSettings& settings);
// Fills in defaults. Throws InvalidArgument for values that do not go together.
void complete(TrainSettings& settings);
// Of completed settings with a batch of `rows`, for the repetitions of `model`.
nlohmann::json identity_of(const TrainSettings& settings, const ClassifierOptions& model,
                           int64_t rows);

}  // namespace sketchgrad::apps::xc
