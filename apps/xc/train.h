#pragma once

#include <nlohmann/json.hpp>

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

}  // namespace sketchgrad::apps::xc
