#pragma once

#include <string>

#include "sketchgrad/apps/xc/data.h"
#include "sketchgrad/apps/xc/settings.h"

// The memory of a whole run on the CPU, from sizes alone: nothing of it is allocated.
namespace sketchgrad::apps::xc {

// What batches of so many rows hold: the most in a few of them.
struct BatchShape {
  int64_t rows = 0;
  int64_t features = 0;  // entries
  int64_t distinct = 0;  // different features
  int64_t labels = 0;
  int64_t distinct_labels = 0;
};

// Batches of a run.
struct RunShape {
  BatchShape step;
  BatchShape validation;
  BatchShape ranking;
};
RunShape run_shape(const TrainSettings& settings, const Data& data, int64_t rows);

// Bytes at the peak of a run, by what they are for.
struct PlannedMemory {
  int64_t parameter = 0;
  int64_t optimizer_state = 0;
  int64_t gradient = 0;
  int64_t activation = 0;
  int64_t workspace = 0;
  int64_t data = 0;
  int64_t index = 0;
  std::string moment;  // what is done then
  int64_t total() const {
    return parameter + optimizer_state + gradient + activation + workspace + data + index;
  }
};

// Of training, validations and the ranking of the test set, in the order of the settings. Not
// counted is what a run that goes on from a checkpoint takes to read it. Where the classes of a
// step are drawn or found (sampled and LSH softmax), there are at most so many.
PlannedMemory plan_memory(const TrainSettings& settings, const ClassifierOptions& model,
                          const RunShape& shape);

// The largest multiple of 8 rows, at most all, whose plan is within the budget. Throws
// InvalidArgument naming what the smallest batch takes where that is more.
int64_t largest_batch(const TrainSettings& settings, const ClassifierOptions& model,
                      const Data& data, int64_t budget);

// A table of all ways to train the repetitions, for people.
std::string format_plans(const TrainSettings& settings, const ClassifierOptions& model,
                         const RunShape& shape);

}  // namespace sketchgrad::apps::xc
