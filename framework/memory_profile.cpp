#include "sketchgrad/framework/memory_profile.h"

#include <algorithm>
#include <new>
#include <utility>

#include "sketchgrad/framework/check.h"

namespace sketchgrad {

size_t events_to_peak(const RecordedStretch& stretch) {
  int64_t total = 0;
  for (const RecordedBlock& block : stretch.live) total += block.bytes;
  int64_t most = total;
  size_t result = 0;
  for (size_t i = 0; i < stretch.events.size(); ++i) {
    total += stretch.events[i].change;
    if (total <= most) continue;
    most = total;
    result = i + 1;
  }
  return result;
}

std::vector<RecordedBlock> live_after(const RecordedStretch& stretch, size_t events) {
  std::map<int64_t, RecordedBlock> live;
  for (const RecordedBlock& block : stretch.live) live[block.block] = block;
  for (size_t i = 0; i < events; ++i) {
    const RecordedEvent& event = stretch.events[i];
    if (event.change > 0) {
      live[event.block] = {event.block, event.change, event.category, event.name, event.scope};
    } else {
      live.erase(event.block);
    }
  }
  std::vector<RecordedBlock> result;
  for (const auto& [number, block] : live) result.push_back(block);
  std::stable_sort(
      result.begin(), result.end(),
      [](const RecordedBlock& a, const RecordedBlock& b) { return a.bytes > b.bytes; });
  return result;
}

MemoryProfile::MemoryProfile(Allocator& allocator, const MemoryProfileOptions& options)
    : allocator_(allocator), options_(options) {
  check(options.events >= 1 && options.stretches >= 2,
        "[memory profile] {} events of a stretch and {} stretches, at least 1 and 2",
        options.events, options.stretches);
  number_of("");
  allocator_.add_observer(*this);
  const std::lock_guard lock(mutex_);
  recording_ = true;
  start_stretch("setup", 0);
}

MemoryProfile::~MemoryProfile() { allocator_.remove_observer(*this); }

int64_t MemoryProfile::now() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() -
                                                              start_)
      .count();
}

int32_t MemoryProfile::number_of(std::string_view text) {
  const auto known = numbers_.find(text);
  if (known != numbers_.end()) return known->second;
  const auto number = static_cast<int32_t>(texts_.size());
  texts_.emplace_back(text);
  numbers_.emplace(text, number);
  return number;
}

void MemoryProfile::observe(const MemoryEvent& event) noexcept {
  const std::lock_guard lock(mutex_);
  try {
    add(event);
  } catch (const std::bad_alloc&) {
    // The record lacks an event; the run must not.
  }
}

void MemoryProfile::add(const MemoryEvent& event) {
  const int32_t name = number_of(event.name), scope = number_of(event.scope);
  if (!recording_) return change_live(event, name, scope);
  if (stretch_.events.size() >= options_.events) {
    begin_unlocked(std::string(stretch_.stretch.label), stretch_.stretch.step);
  }
  stretch_.events.push_back(
      {now(), event.block, event.change, event.reserved, event.category, name, scope});
  change_live(event, name, scope);
  ++events_;
  if (current_.total > stretch_.stretch.at_peak.total) stretch_.stretch.at_peak = current_;
}

void MemoryProfile::change_live(const MemoryEvent& event, int32_t name, int32_t scope) {
  if (event.change > 0) {
    live_[event.block] = {event.block, event.change, event.category, name, scope};
  } else {
    live_.erase(event.block);
  }
  current_.add(event.category, event.change);
  own_peaks_[event.category] = std::max(own_peaks_[event.category], current_[event.category]);
  own_peaks_.total = std::max(own_peaks_.total, current_.total);
  peak_reserved_ = std::max(peak_reserved_, event.reserved);
}

void MemoryProfile::fail(const MemoryEvent& event) noexcept {
  const std::lock_guard lock(mutex_);
  try {
    failure_ = {now(), event.change, event.category, number_of(event.name), number_of(event.scope)};
  } catch (const std::bad_alloc&) {
  }
}

void MemoryProfile::begin(std::string_view label, int64_t step) {
  const std::lock_guard lock(mutex_);
  begin_unlocked(label, step);
}

void MemoryProfile::begin_unlocked(std::string_view label, int64_t step) {
  finish();
  start_stretch(label, step);
}

void MemoryProfile::start_stretch(std::string_view label, int64_t step) {
  stretch_ = {};
  stretch_.stretch = {std::string(label), step, now(), current_};
  stretch_.live.reserve(live_.size());
  for (const auto& [number, block] : live_) stretch_.live.push_back(block);
}

bool MemoryProfile::kept_anyway() const {
  return stretch_.stretch.step <= options_.first_steps &&
         first_.size() < static_cast<size_t>(2 * (options_.first_steps + 1));
}

void MemoryProfile::finish() {
  add_stretch(stretch_.stretch);
  const int64_t peak = stretch_.stretch.at_peak.total;
  const bool highest = peak > most_;
  most_ = std::max(most_, peak);
  if (kept_anyway()) {
    if (highest) highest_.reset();
    first_.push_back(std::move(stretch_));
  } else if (highest) {
    highest_ = std::move(stretch_);
  }
}

void MemoryProfile::add_stretch(const MemoryStretch& stretch) {
  if (unmerged_ > 0 && unmerged_ < merged_) {
    MemoryStretch& last = stretches_.back();
    if (stretch.at_peak.total > last.at_peak.total) last = stretch;
    ++unmerged_;
    return;
  }
  if (stretches_.size() >= options_.stretches) {
    for (size_t i = 0; i + 1 < stretches_.size(); i += 2) {
      const MemoryStretch &a = stretches_[i], &b = stretches_[i + 1];
      stretches_[i / 2] = a.at_peak.total >= b.at_peak.total ? a : b;
    }
    stretches_.resize(stretches_.size() / 2);
    merged_ *= 2;
  }
  stretches_.push_back(stretch);
  unmerged_ = 1;
}

int64_t MemoryProfile::step() const {
  const std::lock_guard lock(mutex_);
  return stretch_.stretch.step;
}

MemoryRecord MemoryProfile::record() const {
  const std::lock_guard lock(mutex_);
  MemoryRecord record{.texts = texts_,
                      .recorded = first_,
                      .peak = 0,
                      .stretches = stretches_,
                      .failure = failure_,
                      .events = events_,
                      .peak_reserved = peak_reserved_,
                      .own_peaks = own_peaks_};
  if (highest_) record.recorded.push_back(*highest_);
  // The last: where memory ran out, or the peak may have been.
  record.recorded.push_back(stretch_);
  record.stretches.push_back(stretch_.stretch);
  for (size_t i = 1; i < record.recorded.size(); ++i) {
    const auto total = [&](size_t of) { return record.recorded[of].stretch.at_peak.total; };
    if (total(i) > total(record.peak)) record.peak = i;
  }
  return record;
}

}  // namespace sketchgrad
