#pragma once

#include <nlohmann/json.hpp>

#include "sketchgrad/apps/lm/settings.h"

namespace sketchgrad::apps::lm {

struct TrainOutcome {
  bool finished = false;  // false: stopped by a signal
  nlohmann::json report;  // empty if not finished
};

// `lm train`: trains, scores, writes the report. Takes completed settings. Progress goes to stderr,
// the summary to stdout.
TrainOutcome train(TrainSettings settings);

}  // namespace sketchgrad::apps::lm
