#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

// A run with other settings, and the flags that say so.
struct Proposal {
  std::string flags;
  PlannedRun run;
};
// Makes one when it comes to that.
using Alternative = std::function<Proposal()>;

// What advice is made of: the run as it is, and how to plan it otherwise.
struct AdvisedRun {
  OptimizerOptions optimizer;  // completed
  std::function<std::unique_ptr<RunPlanner>(const OptimizerOptions&)> planner;
  std::vector<Alternative> others;  // settings that only this program has
};

// Of a program's settings, which must outlive it, and make(settings), a planner of a run with
// others.
template <class Settings, class Make>
AdvisedRun advised_run(const Settings& settings, const Make& make) {
  return {settings.optimizer,
          [&settings, make](const OptimizerOptions& optimizer) {
            Settings changed = settings;
            changed.optimizer = optimizer;
            return make(changed);
          },
          {}};
}

// Settings with which the run may fit into `available` bytes, as lines for people: other memories,
// another batch, what the program adds, and where none of these is enough, several together.
std::string memory_advice(const AdvisedRun& run, int64_t available);

// Memories of fewer bytes for the optimizer's state, in the order in which training suffers least:
// flags, and completed options with them. None where a budget chooses memories already.
std::vector<std::pair<std::string, OptimizerOptions>> smaller_memories(
    const OptimizerOptions& options);

// Of the first three alternatives that keep to `available` bytes: a line each, with the bytes that
// it saves beside the run as it is. Where none does, the last resort is tried as well, and lines
// are of the three that take least.
std::string compare_alternatives(const PlannedRun& as_it_is, int64_t available,
                                 const std::vector<Alternative>& alternatives,
                                 const Alternative& last_resort = nullptr);

// Throws the error again, with the advice that `make` gives, and without where even that fails.
[[noreturn]] void throw_with_advice(const OutOfMemory& error,
                                    const std::function<std::string()>& make);

}  // namespace sketchgrad::apps
