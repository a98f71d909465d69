#pragma once

#include <memory>

#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/framework/memory_profile.h"

namespace sketchgrad::apps {

// The memory limit and the memory profile of a run while it lives: from the reset of the peaks to
// the last score.
class MemoryWatch {
 public:
  // Resets the peaks of `device`, so that what went before does not stand in them. Throws
  // InvalidArgument for a limit that is none.
  MemoryWatch(const RunOptions& run, Device device);
  // A profile in memory alone.
  MemoryWatch(std::vector<std::string> arguments, Device device);
  // Lifts the limit. Of a run that has not come to finish(), the profile is written as far as it
  // came; where that fails, a line on stderr says so.
  ~MemoryWatch();
  MemoryWatch(const MemoryWatch&) = delete;
  MemoryWatch& operator=(const MemoryWatch&) = delete;

  // Null where none is asked for, and after finish().
  MemoryProfile* profile() { return profile_.get(); }
  // What the profile is to say of the optimizer, once it has all its parameters.
  void describe(const Optimizer& optimizer);
  // What follows belongs to no step: "ranking".
  void begin(const char* stretch);
  // The profile so far. Requires one.
  ProfiledRun profiled() const;
  // Writes the profile, or tries to: it is done then. Throws IoError.
  void finish();
  // What the destructor does.
  void close() noexcept;
  // The limit, or where there is none, the most bytes that the device has had in use.
  int64_t available() const;

 private:
  std::string folder_;
  Device device_;
  ProfiledRun run_;
  int64_t limit_before_;
  bool closed_ = false;
  std::unique_ptr<MemoryProfile> profile_;
};

}  // namespace sketchgrad::apps
