#pragma once

#include "sketchgrad/apps/xc/examples.h"
#include "sketchgrad/apps/xc/settings.h"

namespace sketchgrad::apps::xc {

// The sets of a training.
struct Data {
  Examples train;
  Examples valid;
  Examples test;
};

// Throws InvalidArgument where they are not of the same classes and features.
Data open_data(const TrainSettings& settings);

}  // namespace sketchgrad::apps::xc
