#pragma once

#include <CLI/CLI.hpp>

#include <iosfwd>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/compute.h"
#include "sketchgrad/apps/xc/settings.h"

namespace sketchgrad::apps::xc {

// What `xc predict` is told.
struct PredictSettings {
  std::string checkpoint;  // file or folder
  std::string data;        // any set with the model's classes: for their names
  std::string queries;     // empty: standard input
  int64_t k = 10;
  RankingSettings ranking;
  ComputeOptions compute;
};

void add_options(CLI::App& command, PredictSettings& settings);

// Answers each line of `queries` with a line of JSON on `answers`,
//   {"query": "...", "classes": ["...", ...], "scores": [...]},
// best first, as soon as the line is there. When the queries end, the median and the 99th
// percentile of the seconds that an answer took go to stderr. Throws InvalidArgument before the
// first query for a ranking that the model cannot do, DataError where the data is not of text, and
// IoError where queries cannot be read or an answer cannot be written. False where a signal ended
// it.
bool predict(const PredictSettings& settings, std::istream& queries, std::ostream& answers);
// The same from the file of the settings or standard input, to standard output.
bool predict(const PredictSettings& settings);

// By nearest rank: the smallest of the values that at least `share` of them, in (0, 1], are not
// above. Of two values the smaller one is the median. There must be a value.
double quantile(std::vector<double> values, double share);

}  // namespace sketchgrad::apps::xc
