#include "sketchgrad/apps/common/memory_watch.h"

#include <cstdio>
#include <exception>
#include <utility>

#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/training_run.h"
#include "sketchgrad/framework/memory_trace.h"

namespace sketchgrad::apps {

MemoryWatch::MemoryWatch(const RunOptions& run, Device device)
    : folder_(run.memory_profile), device_(device), limit_before_(allocator(device).limit()) {
  run_.arguments = run.arguments;
  const bool limited = !run.memory_limit.empty();
  const int64_t limit = limited ? parse_bytes("--memory-limit", run.memory_limit) : 0;
  reset_peaks(device);
  if (!folder_.empty()) profile_ = std::make_unique<MemoryProfile>(allocator(device));
  if (limited) allocator(device).set_limit(limit);
}

MemoryWatch::MemoryWatch(std::vector<std::string> arguments, Device device)
    : device_(device), limit_before_(allocator(device).limit()) {
  run_.arguments = std::move(arguments);
  reset_peaks(device);
  profile_ = std::make_unique<MemoryProfile>(allocator(device));
}

MemoryWatch::~MemoryWatch() { close(); }

int64_t MemoryWatch::available() const {
  const Allocator& memory = allocator(device_);
  return memory.limit() > 0 ? memory.limit() : memory.peak().total;
}

void MemoryWatch::close() noexcept {
  if (std::exchange(closed_, true)) return;
  allocator(device_).set_limit(limit_before_);
  try {
    finish();
  } catch (const std::exception& error) {
    print_line(stderr, error.what());
  }
}

void MemoryWatch::describe(const Optimizer& optimizer) {
  run_.state = optimizer.state_bytes();
  run_.dense_state_bytes = optimizer.dense_state_bytes();
}

void MemoryWatch::begin(const char* stretch) {
  if (profile_ == nullptr) return;
  profile_->begin(stretch, profile_->step());
}

ProfiledRun MemoryWatch::profiled() const {
  ProfiledRun run = run_;
  run.device = to_string(device_);
  run.planned = MemoryTrace::active();
  run.record = profile_->record();
  run.steps = profile_->step();
  run.device_memory = allocator(device_).device_memory();
  run.reserved = allocator(device_).reserved_bytes();
  return run;
}

void MemoryWatch::finish() {
  if (profile_ == nullptr || folder_.empty()) return;
  const ProfiledRun run = profiled();
  // First, so that what cannot be written is not tried again.
  profile_.reset();
  write_memory_profile(folder_, run);
}

}  // namespace sketchgrad::apps
