#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/apps/common/word_counter.h"

namespace sketchgrad::sketch_error {

struct StudySettings {
  std::vector<std::string> train = {};
  std::string cache = {};
  apps::VocabularyOptions vocabulary = {};
  int64_t embedding_dim = 200;
  int64_t hidden = 200;
  int64_t batch = 20;
  int64_t bptt = 35;
  int64_t steps = 1000;
  int64_t every = 50;  // steps from one line to the next
  std::string tables = "embedding";
  int64_t heavy = 1000;
  std::vector<std::string> memories1 = {};  // as parse_memory reads them
  std::vector<std::string> memories2 = {};
  double clip = 1;
  uint64_t seed = 1;
  std::string output = {};
  apps::OptimizerOptions optimizer = {};
  apps::ComputeOptions compute = {};
};

void add_options(CLI::App& command, StudySettings& settings);

// Trains an LSTM language model and gives `write` one entry for each memory, table and every so
// many steps: step, table, moment, memory, bytes, loss, and the errors of MemoryErrors, null where
// they are of no rows. Throws
// InvalidArgument for settings that do not go together, DataError and IoError as the reader of
// texts does, NumericError where the loss is not finite. False where a signal asked to stop.
bool study(const StudySettings& settings,
           const std::function<void(const nlohmann::json& entry)>& write);

}  // namespace sketchgrad::sketch_error
