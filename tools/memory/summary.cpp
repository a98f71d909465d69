#include "sketchgrad/tools/memory/summary.h"

#include <algorithm>
#include <map>
#include <span>
#include <unordered_map>
#include <unordered_set>

namespace sketchgrad::memory {

namespace {

Peak peak_of(const MemoryRecord& record, const LayerNames& layers) {
  const RecordedStretch& stretch = record.recorded[record.peak];
  const size_t events = events_to_peak(stretch);
  Peak peak{.stretch = stretch.stretch.label,
            .step = stretch.stretch.step,
            .scope = {},
            .reserved = record.peak_reserved,
            .live = compose(record, layers, live_after(stretch, events))};
  if (events > 0) {
    const RecordedEvent& event = stretch.events[events - 1];
    peak.scope = record.text(event.scope);
    peak.reserved = event.reserved;
  } else if (!stretch.events.empty()) {
    // A release, else it were the peak; what is released stays reserved.
    peak.reserved = stretch.events.front().reserved;
  }
  return peak;
}

// The one that was under way; null where it was not recorded.
const RecordedStretch* stretch_at(const MemoryRecord& record, int64_t time) {
  const RecordedStretch* found = nullptr;
  for (const RecordedStretch& stretch : record.recorded) {
    if (stretch.stretch.begin <= time) found = &stretch;
  }
  if (found == nullptr) return nullptr;
  const bool over = std::any_of(
      record.stretches.begin(), record.stretches.end(), [&](const MemoryStretch& stretch) {
        return stretch.begin > found->stretch.begin && stretch.begin <= time;
      });
  return over ? nullptr : found;
}

size_t events_until(const RecordedStretch& stretch, int64_t time) {
  const auto after = std::find_if(stretch.events.begin(), stretch.events.end(),
                                  [&](const RecordedEvent& event) { return event.time > time; });
  return static_cast<size_t>(after - stretch.events.begin());
}

Failure failure_of(const MemoryRecord& record, const LayerNames& layers) {
  const RecordedFailure& recorded = *record.failure;
  Failure failure{.bytes = recorded.bytes,
                  .category = recorded.category,
                  .name = record.text(recorded.name),
                  .scope = record.text(recorded.scope),
                  .live = {}};
  if (const RecordedStretch* const stretch = stretch_at(record, recorded.time)) {
    failure.live =
        compose(record, layers, live_after(*stretch, events_until(*stretch, recorded.time)));
  }
  return failure;
}

// All events of a stretch, but where memory ran out in it, behind its peak, those until then: what
// is released by an error is not temporary.
size_t events_before_unwinding(const MemoryRecord& record, const RecordedStretch& stretch) {
  if (!record.failure || stretch_at(record, record.failure->time) != &stretch) {
    return stretch.events.size();
  }
  const size_t events = events_until(stretch, record.failure->time);
  return events >= events_to_peak(stretch) ? events : stretch.events.size();
}

std::vector<Temporaries> temporaries_of(const MemoryRecord& record) {
  const RecordedStretch& stretch = record.recorded[record.peak];
  const std::span events(stretch.events.data(), events_before_unwinding(record, stretch));
  std::unordered_map<int64_t, int32_t> scopes;  // of the blocks allocated in this stretch
  std::unordered_set<int64_t> released;         // of these
  for (const RecordedEvent& event : events) {
    if (event.change > 0) {
      scopes[event.block] = event.scope;
    } else if (scopes.contains(event.block)) {
      released.insert(event.block);
    }
  }
  std::map<int32_t, Temporaries> by_scope;
  std::map<int32_t, int64_t> held;
  for (const RecordedEvent& event : events) {
    if (!released.contains(event.block)) continue;
    const int32_t scope = scopes[event.block];
    Temporaries& of = by_scope[scope];
    int64_t& now = held[scope];
    now += event.change;
    of.peak_bytes = std::max(of.peak_bytes, now);
    if (event.change < 0) continue;
    of.total_bytes += event.change;
    ++of.allocations;
  }
  std::vector<Temporaries> result;
  for (auto& [scope, of] : by_scope) {
    of.op = record.text(scope);
    result.push_back(of);
  }
  std::stable_sort(result.begin(), result.end(), [](const Temporaries& a, const Temporaries& b) {
    return a.peak_bytes > b.peak_bytes;
  });
  return result;
}

}  // namespace

Summary summarize(const apps::ProfiledRun& run) {
  const MemoryRecord& record = run.record;
  const LayerNames layers(record);
  Summary summary;
  summary.arguments = run.arguments;
  summary.device = run.device;
  summary.planned = run.planned;
  summary.steps = run.steps;
  summary.events = record.events;
  summary.peak = peak_of(record, layers);
  summary.temporaries = temporaries_of(record);
  summary.peak_reserved = record.peak_reserved;
  if (const auto& device = summary.device_memory = run.device_memory) {
    summary.context = std::max<int64_t>(0, device->total - device->free - run.reserved);
  }
  for (const StateBytes& entry : run.state) summary.state += entry.bytes;
  summary.dense_state = run.dense_state_bytes;
  if (record.failure) summary.failure = failure_of(record, layers);
  summary.stretches = record.stretches;
  return summary;
}

}  // namespace sketchgrad::memory
