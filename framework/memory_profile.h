#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/framework/memory.h"

// What the allocator of a device did in the course of a run, in bounded space: every event of a few
// stretches of it, among them the one with the peak, and the peaks of all.
namespace sketchgrad {

// A stretch of a run: what comes before the first step, a step, or what stands between two.
struct MemoryStretch {
  std::string label;  // "setup", "step", or what is done between steps
  int64_t step = 0;   // number of the step, from 1; of the last one before what is between
  int64_t begin = 0;  // ns since the profile's begin
  MemoryFigures at_peak;
};

// Names and scopes are numbers of MemoryRecord::texts.
struct RecordedBlock {
  int64_t block = 0;
  int64_t bytes = 0;
  Category category{};
  int32_t name = 0;
  int32_t scope = 0;  // that it was allocated in
};

struct RecordedEvent {
  int64_t time = 0;  // ns since the profile's begin
  int64_t block = 0;
  int64_t change = 0;  // bytes, negative for a release
  int64_t reserved = 0;
  Category category{};
  int32_t name = 0;
  int32_t scope = 0;  // open at that time
};

// A stretch in full. More than MemoryProfileOptions::events go on in another of the same label.
struct RecordedStretch {
  MemoryStretch stretch;
  std::vector<RecordedBlock> live;  // at its begin, by number
  std::vector<RecordedEvent> events;
};

// An allocation that there was no memory for.
struct RecordedFailure {
  int64_t time = 0;
  int64_t bytes = 0;
  Category category{};
  int32_t name = 0;
  int32_t scope = 0;
};

struct MemoryRecord {
  std::vector<std::string> texts;
  std::vector<RecordedStretch> recorded;  // in order; the last may be unfinished
  size_t peak = 0;                        // which of them has the peak of the run
  // All stretches; where there are too many, of neighbours the one with the larger peak.
  std::vector<MemoryStretch> stretches;
  std::optional<RecordedFailure> failure;  // the last one
  int64_t events = 0;                      // of the whole run
  int64_t peak_reserved = 0;
  MemoryFigures own_peaks;  // of each category at its own time; the total's

  const std::string& text(int32_t number) const { return texts.at(static_cast<size_t>(number)); }
};

// How many events of the stretch there are up to its peak; 0 where it is at its begin.
size_t events_to_peak(const RecordedStretch&);
// What is live after so many events of the stretch, the largest first.
std::vector<RecordedBlock> live_after(const RecordedStretch&, size_t events);

struct MemoryProfileOptions {
  int64_t first_steps = 2;  // recorded in full, after the setup
  size_t events = 32768;    // of a stretch
  size_t stretches = 1024;  // told apart
};

// Observes a device's allocator while it lives. Thread-safe.
class MemoryProfile final : public MemoryObserver {
 public:
  explicit MemoryProfile(Allocator& allocator, const MemoryProfileOptions& options = {});
  ~MemoryProfile() override;
  MemoryProfile(const MemoryProfile&) = delete;
  MemoryProfile& operator=(const MemoryProfile&) = delete;

  // Another stretch begins.
  void begin(std::string_view label, int64_t step);
  // Number of the step that was begun last; 0 before the first.
  int64_t step() const;
  MemoryRecord record() const;

  void observe(const MemoryEvent&) noexcept override;
  void fail(const MemoryEvent&) noexcept override;

 private:
  int64_t now() const;
  int32_t number_of(std::string_view text);
  void add(const MemoryEvent& event);
  void change_live(const MemoryEvent& event, int32_t name, int32_t scope);
  void begin_unlocked(std::string_view label, int64_t step);
  void start_stretch(std::string_view label, int64_t step);
  void finish();
  bool kept_anyway() const;
  void add_stretch(const MemoryStretch& stretch);

  Allocator& allocator_;
  MemoryProfileOptions options_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::vector<std::string> texts_;
  std::map<std::string, int32_t, std::less<>> numbers_;
  std::map<int64_t, RecordedBlock> live_;
  MemoryFigures current_;
  bool recording_ = false;                  // false while it is told of what is live already
  RecordedStretch stretch_;                 // now
  std::vector<RecordedStretch> first_;      // setup and first steps
  std::optional<RecordedStretch> highest_;  // of those behind them, where it has the peak of all
  int64_t most_ = 0;
  std::vector<MemoryStretch> stretches_;
  size_t merged_ = 1;    // stretches that one of stretches_ stands for
  size_t unmerged_ = 0;  // that the last of them stands for
  std::optional<RecordedFailure> failure_;
  int64_t events_ = 0;
  int64_t peak_reserved_ = 0;
  MemoryFigures own_peaks_;
};

}  // namespace sketchgrad
