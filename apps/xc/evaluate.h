#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

#include "sketchgrad/apps/common/compute.h"
#include "sketchgrad/apps/xc/examples.h"
#include "sketchgrad/apps/xc/model.h"
#include "sketchgrad/apps/xc/settings.h"

namespace sketchgrad::apps::xc {

// Throws InvalidArgument for settings by which such a model cannot rank.
void check_ranking(const RankingSettings& settings, const ClassifierOptions& model);
// Throws InvalidArgument for settings with which such a model cannot be evaluated: before it is
// trained, not after.
void check_settings(const EvaluationSettings& settings, const ClassifierOptions& model,
                    const Examples& examples);

// Classes of a row's ranking, where there are as many: the deepest recall asks for them.
inline constexpr int64_t kRanked = 100;

// Ranks classes for the first rows of the examples. The metrics of metrics.h and, where asked for,
// of sampled_protocol.h; and "ranked_rows_per_second". Nothing where StopSignal::requested() ended
// it early. The model is left in evaluation mode.
std::optional<nlohmann::json> evaluate(Classifier& model, const Examples& examples,
                                       const EvaluationSettings& settings);

// The metrics in a few lines on stdout.
void print_scores(const nlohmann::json& scores);

// What `xc eval` is told.
struct EvalSettings {
  std::string checkpoint;  // file or folder
  std::string data;
  std::string report;  // empty: none
  EvaluationSettings evaluation;
  ComputeOptions compute;
};
void add_options(CLI::App& command, EvalSettings& settings);
// False where a signal ended it.
bool evaluate_and_print(const EvalSettings& settings);

}  // namespace sketchgrad::apps::xc
