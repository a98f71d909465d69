#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

// A run with other settings, and its flags that say so.
struct Alternative {
  std::string flags;
  std::function<PlannedRun()> plan;
};

// Memories of fewer bytes for the optimizer's state, in the order in which training suffers least:
// flags, and completed options with them. None where a budget chooses memories already.
std::vector<std::pair<std::string, OptimizerOptions>> smaller_memories(
    const OptimizerOptions& options);

// Of the first three alternatives that keep to `available` bytes, or where none does, of the three
// that take least: a line each, with the bytes that it saves beside the run as it is.
std::string memory_advice(const PlannedRun& as_it_is, int64_t available,
                          const std::vector<Alternative>& alternatives);

// Throws the error again, with the advice that `make` gives, and without where even that fails.
[[noreturn]] void throw_with_advice(const OutOfMemory& error,
                                    const std::function<std::string()>& make);

}  // namespace sketchgrad::apps
