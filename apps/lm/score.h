#pragma once

#include <CLI/CLI.hpp>

#include <string>

#include "sketchgrad/apps/common/compute.h"

namespace sketchgrad::apps::lm {

// What `lm eval` is told.
struct EvalSettings {
  std::string checkpoint;  // file or folder
  std::string data;
  std::string report;  // empty: none
  int64_t batch = 10;
  int64_t bptt = 35;
  ComputeOptions compute;
};

void add_options(CLI::App& command, EvalSettings& settings);
// `lm eval`: the perplexity of a text. False where a signal ended it.
bool score_text(const EvalSettings& settings);

}  // namespace sketchgrad::apps::lm
