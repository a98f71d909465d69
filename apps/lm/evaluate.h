#pragma once

#include <optional>
#include <string>

#include "sketchgrad/apps/common/batches.h"
#include "sketchgrad/apps/common/trainer.h"
#include "sketchgrad/apps/lm/model.h"

namespace sketchgrad::apps::lm {

// Mean of -log p over all targets, without dropout, from a state of zeros. None where
// StopSignal::requested() ended it early. The model is left in evaluation mode.
std::optional<LossMean> evaluate(LanguageModel& model, const ColumnBatches& batches,
                                 const std::string& label);

double perplexity(double loss);

}  // namespace sketchgrad::apps::lm
