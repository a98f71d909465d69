#pragma once

#include <string>

#include "sketchgrad/apps/xc/examples.h"
#include "sketchgrad/apps/xc/settings.h"

// The memory of a training run, from sizes alone: nothing is allocated.
namespace sketchgrad::apps::xc {

// What a step's batch holds: the most in a few random batches of so many rows.
struct BatchShape {
  int64_t rows = 0;
  int64_t features = 0;  // entries
  int64_t distinct = 0;  // different features
  int64_t labels = 0;
};
BatchShape batch_shape(const Examples& examples, int64_t rows, uint64_t seed);

// Bytes at the peak of a step, by what they are for. Workspace and index hold what the largest
// kernels take; what is left out is small.
struct PlannedMemory {
  int64_t parameter = 0;
  int64_t optimizer_state = 0;
  int64_t gradient = 0;
  int64_t activation = 0;
  int64_t workspace = 0;
  int64_t data = 0;
  int64_t index = 0;
  int64_t total() const {
    return parameter + optimizer_state + gradient + activation + workspace + data + index;
  }
};
PlannedMemory plan_memory(const TrainSettings& settings, const ClassifierOptions& model,
                          const BatchShape& batch);

// The largest multiple of 8 rows, at most all, whose plan is within the budget. Throws
// InvalidArgument naming what the smallest batch takes where that is more.
int64_t largest_batch(const TrainSettings& settings, const ClassifierOptions& model,
                      const Examples& examples, int64_t budget);

// A table of all ways to train the repetitions, for people.
std::string format_plans(const TrainSettings& settings, const ClassifierOptions& model,
                         const BatchShape& batch);

}  // namespace sketchgrad::apps::xc
