#include "sketchgrad/tools/memory/chrome_trace.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/framework/memory.h"

namespace sketchgrad::memory {

namespace {

using apps::ProfiledRun;
using nlohmann::json;

enum Track { kStretches = 1, kScopes = 2 };

std::string title_of(const MemoryStretch& stretch) {
  return stretch.label == "step" ? fmt::format("step {}", stretch.step) : stretch.label;
}

std::vector<std::string> components_of(const std::string& scope) {
  std::vector<std::string> result;
  for (size_t begin = 0; begin < scope.size();) {
    const size_t end = std::min(scope.find('/', begin), scope.size());
    result.push_back(scope.substr(begin, end - begin));
    begin = end + 1;
  }
  return result;
}

class Trace {
 public:
  explicit Trace(const ProfiledRun& run) : run_(run), record_(run.record) {}

  json made() {
    name_tracks();
    add_stretches();
    for (const RecordedStretch& stretch : record_.recorded) {
      add_counters(stretch);
      add_scopes(stretch);
    }
    add_peak();
    if (record_.failure) add_failure(*record_.failure);
    return {{"displayTimeUnit", "ms"},
            {"otherData",
             {{"command", fmt::format("{}", fmt::join(run_.arguments, " "))},
              {"device", run_.device},
              {"planned", run_.planned}}},
            {"traceEvents", std::move(events_)}};
  }

 private:
  json& add(const char* phase, const std::string& name, int64_t time, Track track) {
    events_.push_back({{"ph", phase},
                       {"name", name},
                       {"ts", static_cast<double>(time) / 1000},  // microseconds
                       {"pid", 1},
                       {"tid", static_cast<int>(track)}});
    return events_.back();
  }

  void name_tracks() {
    add("M", "process_name", 0, kStretches)["args"]["name"] = "memory of " + run_.device;
    add("M", "thread_name", 0, kStretches)["args"]["name"] = "stretches";
    add("M", "thread_name", 0, kScopes)["args"]["name"] = "scopes";
  }

  // The time of the last event that is recorded.
  int64_t end() const {
    const RecordedStretch& last = record_.recorded.back();
    const int64_t end = last.events.empty() ? last.stretch.begin : last.events.back().time;
    return record_.failure ? std::max(end, record_.failure->time) : end;
  }

  void add_stretches() {
    for (size_t i = 0; i < record_.stretches.size(); ++i) {
      const MemoryStretch& stretch = record_.stretches[i];
      const int64_t next =
          i + 1 < record_.stretches.size() ? record_.stretches[i + 1].begin : end();
      json& slice = add("X", title_of(stretch), stretch.begin, kStretches);
      slice["dur"] = static_cast<double>(next - stretch.begin) / 1000;
      slice["args"]["peak_bytes"] = stretch.at_peak.total;
    }
  }

  void count(const std::string& name, int64_t time, int64_t bytes) {
    add("C", name, time, kStretches)["args"]["bytes"] = bytes;
  }

  void add_counters(const RecordedStretch& stretch) {
    MemoryFigures live;
    for (const RecordedBlock& block : stretch.live) live.add(block.category, block.bytes);
    const int64_t begin = stretch.stretch.begin;
    for (const Category category : kCategories) {
      count(std::string(to_string(category)), begin, live[category]);
    }
    count("total", begin, live.total);
    int64_t reserved = 0;
    for (const RecordedEvent& event : stretch.events) {
      live.add(event.category, event.change);
      count(std::string(to_string(event.category)), event.time, live[event.category]);
      count("total", event.time, live.total);
      if (event.reserved != reserved) count("reserved", event.time, event.reserved);
      reserved = event.reserved;
    }
  }

  void add_scopes(const RecordedStretch& stretch) {
    std::vector<std::string> open;
    int64_t last = stretch.stretch.begin;
    const auto close_to = [&](size_t depth) {
      for (; open.size() > depth; open.pop_back()) add("E", open.back(), last, kScopes);
    };
    for (const RecordedEvent& event : stretch.events) {
      const std::vector<std::string> scopes = components_of(record_.text(event.scope));
      const auto differ =
          std::mismatch(open.begin(), open.end(), scopes.begin(), scopes.end()).second;
      close_to(static_cast<size_t>(differ - scopes.begin()));
      for (auto scope = differ; scope != scopes.end(); ++scope) {
        add("B", *scope, event.time, kScopes);
        open.push_back(*scope);
      }
      last = event.time;
    }
    close_to(0);
  }

  json& add_instant(const std::string& name, int64_t time) {
    json& instant = add("i", name, time, kStretches);
    instant["s"] = "g";  // a line across all tracks
    return instant;
  }

  void add_peak() {
    const RecordedStretch& stretch = record_.recorded[record_.peak];
    const size_t events = events_to_peak(stretch);
    const int64_t time = events > 0 ? stretch.events[events - 1].time : stretch.stretch.begin;
    add_instant("peak", time)["args"]["bytes"] = stretch.stretch.at_peak.total;
  }

  void add_failure(const RecordedFailure& failure) {
    add_instant("out of memory", failure.time)["args"] = {{"bytes", failure.bytes},
                                                          {"category", to_string(failure.category)},
                                                          {"name", record_.text(failure.name)},
                                                          {"scope", record_.text(failure.scope)}};
  }

  const ProfiledRun& run_;
  const MemoryRecord& record_;
  json events_ = json::array();
};

}  // namespace

json chrome_trace(const ProfiledRun& run) { return Trace(run).made(); }

}  // namespace sketchgrad::memory
