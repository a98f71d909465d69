#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/apps/common/memory_watch.h"
#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/framework/memory.h"

// What a run will take, before it is begun: the run itself is traced (framework/memory_trace.h),
// with the data that it is to have and a model that is larger than the machine if need be.
namespace sketchgrad::apps {

// How many of a run's steps are traced, which have so many examples each: enough to know the
// differences between batches. A validation and the scores come behind them in any case.
int64_t traced_steps(int64_t steps, int64_t examples);

struct PlannedRun {
  MemoryFigures peak;     // of each category its own
  MemoryFigures at_peak;  // adds up to the total's peak
  int64_t peak_reserved = 0;
  std::string moment;  // what is done at the peak: "step 3, backward/softmax.backward"
  ProfiledRun profile;
};

// A run whose data has been read.
class RunPlanner {
 public:
  virtual ~RunPlanner() = default;
  // Of the settings, and the largest that the data has examples for.
  virtual int64_t batch() const = 0;
  virtual int64_t most() const = 0;
  // With batches of another size. Throws what the run would.
  virtual PlannedRun plan(int64_t batch) const = 0;

  // The largest batch whose peak is found to be within `budget` bytes; 0 where there is none. Peaks
  // grow with the batch but for what is cut into chunks, so larger ones than the first that does
  // not fit are tried: each of the next 16, and some up to half as large again.
  int64_t largest_batch(int64_t budget) const;
};

// Settings of the same run where it is traced: on the CPU, with no files to write and no limit.
RunOptions for_trace(RunOptions run);

// Traces body(watch), which is false where a signal ended it; then throws Error.
PlannedRun trace_run(const RunOptions& run, const std::function<bool(MemoryWatch&)>& body);

}  // namespace sketchgrad::apps
