#pragma once

#include <nlohmann/json.hpp>

#include <memory>
#include <string>

#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/apps/xc/settings.h"

namespace sketchgrad::apps::xc {

struct TrainOutcome {
  bool finished = false;  // false: a signal ended it
  nlohmann::json report;  // of a finished run
};

// `xc train`, of completed settings: trains, ranks the test set, and reports.
TrainOutcome train(const TrainSettings& settings);
// What --plan prints.
std::string plan(const TrainSettings& settings);
// For the same settings: opens the data, and says what the run will take.
std::unique_ptr<RunPlanner> make_planner(const TrainSettings& settings);

}  // namespace sketchgrad::apps::xc
