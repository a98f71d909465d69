#pragma once

#include <nlohmann/json.hpp>

#include <memory>

#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/apps/lm/settings.h"

namespace sketchgrad::apps::lm {

struct TrainOutcome {
  bool finished = false;  // false: stopped by a signal
  nlohmann::json report;  // empty if not finished
};

// `lm train`: trains, scores, writes the report. Takes completed settings. Progress goes to stderr,
// the summary to stdout.
TrainOutcome train(TrainSettings settings);

// For the same settings: reads the texts, and says what the run will take.
std::unique_ptr<RunPlanner> make_planner(TrainSettings settings);

}  // namespace sketchgrad::apps::lm
