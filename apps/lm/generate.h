#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <string>

#include "sketchgrad/apps/common/compute.h"
#include "sketchgrad/apps/lm/task.h"

namespace sketchgrad::apps::lm {

// What `lm generate` is told.
struct GenerateSettings {
  std::string checkpoint;  // file or folder
  std::string prompt;
  int64_t length = 100;    // tokens
  double temperature = 1;  // 0: the most likely word each time
  int64_t top_k = 0;       // 0: all words
  uint64_t seed = 1;
  ComputeOptions compute;
};

void add_options(CLI::App& command, GenerateSettings& settings);
// Text that goes on from the prompt, which it begins with; <eos> is a line's end.
std::string generate(TrainedModel& trained, const GenerateSettings& settings);
// `lm generate`: prints it.
void print_generated(const GenerateSettings& settings);

}  // namespace sketchgrad::apps::lm
