#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/apps/common/word_counter.h"
#include "sketchgrad/apps/lm/model.h"

namespace sketchgrad::apps::lm {

// What `lm train` is told.
struct TrainSettings {
  std::vector<std::string> train;  // texts that follow each other
  std::string valid;
  std::string test;   // empty: none
  std::string cache;  // as CachedReader takes it
  VocabularyOptions vocabulary;
  int64_t valid_limit = 0;  // tokens of validations during training; 0: all

  LanguageModelOptions model;  // its vocabulary comes from the text
  int64_t bptt = 35;
  int64_t batch = 20;
  int64_t eval_batch = 10;
  int64_t epochs = 3;
  int64_t steps = 0;  // 0: epochs count

  std::string sketch_tables = "both";  // embedding, output, both
  OptimizerOptions optimizer;
  RunOptions run;
};

void add_options(CLI::App& command, TrainSettings& settings);
// Fills in defaults. Throws InvalidArgument for values that do not go together.
void complete(TrainSettings& settings);
// Of completed settings.
nlohmann::json to_json(const TrainSettings& settings);
// The part of them that a resumed run must share with the one it goes on with.
nlohmann::json identity_of(const TrainSettings& settings);

}  // namespace sketchgrad::apps::lm
