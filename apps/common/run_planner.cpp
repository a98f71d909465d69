#include "sketchgrad/apps/common/run_planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "sketchgrad/framework/memory_trace.h"

namespace sketchgrad::apps {

namespace {

std::string describe_peak(const MemoryRecord& record) {
  const RecordedStretch& stretch = record.recorded[record.peak];
  const size_t events = events_to_peak(stretch);
  std::string text = stretch.stretch.label;
  if (stretch.stretch.step > 0) text += fmt::format(" {}", stretch.stretch.step);
  if (events == 0) return text;
  const std::string& scope = record.text(stretch.events[events - 1].scope);
  return scope.empty() ? text : text + ", " + scope;
}

constexpr int64_t kNext = 16;

// The largest batch in [low, high] that is found to fit, of the next ones and of some beyond.
template <class Fits>
int64_t best_beyond(int64_t low, int64_t high, const Fits& fits) {
  int64_t best = low;
  for (int64_t batch = low + 1; batch <= high;) {
    if (fits(batch)) best = batch;
    batch += batch < low + kNext ? 1 : std::max<int64_t>(1, (high - low) / kNext);
  }
  return best;
}

}  // namespace

int64_t traced_steps(int64_t steps, int64_t examples) {
  constexpr int64_t kLeast = 3, kMost = 50, kExamples = 65536;
  return std::min(steps, std::clamp(kExamples / std::max<int64_t>(examples, 1), kLeast, kMost));
}

int64_t RunPlanner::largest_batch(int64_t budget) const {
  const auto fits = [&](int64_t batch) { return plan(batch).at_peak.total <= budget; };
  const int64_t most = this->most();
  int64_t low = 0, high = std::clamp<int64_t>(batch(), 1, most);
  // Doubled from the batch of the settings until it is too large, or the largest there is.
  while (fits(high)) {
    low = high;
    if (high == most) return most;
    high = std::min(most, 2 * high);
  }
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return best_beyond(low, std::min(most, low + std::max(kNext, low / 2)), fits);
}

RunOptions for_trace(RunOptions run) {
  run.compute.device = "cpu";
  run.compute.precision = "fp32";
  run.checkpoint.clear();
  run.resume = false;
  run.report.clear();
  run.metrics.clear();
  run.memory_profile.clear();
  run.memory_limit.clear();
  return run;
}

PlannedRun trace_run(const RunOptions& run, const std::function<bool(MemoryWatch&)>& body) {
  const MemoryTrace trace;
  MemoryWatch watch(run.arguments, kCpu);
  if (!body(watch)) throw Error("[plan] stopped by a signal");
  const Allocator& memory = allocator(kCpu);
  PlannedRun plan{
      memory.peak(), memory.at_peak(), memory.peak_reserved_bytes(), {}, watch.profiled()};
  plan.moment = describe_peak(plan.profile.record);
  return plan;
}

}  // namespace sketchgrad::apps
