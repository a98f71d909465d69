#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sketchgrad/framework/memory.h"

namespace sketchgrad::test {

// A MemoryEvent that outlives its call.
struct LoggedEvent {
  int64_t block = 0;
  int64_t change = 0;
  Category category{};
  std::string name;
  std::string scope;
  int64_t reserved = 0;
};

// What an allocator does while the log lives. What was live before is not told.
class MemoryLog final : public MemoryObserver {
 public:
  explicit MemoryLog(Allocator& allocator) : allocator_(allocator) {
    allocator_.add_observer(*this);
    events_.clear();
  }
  ~MemoryLog() override { allocator_.remove_observer(*this); }
  MemoryLog(const MemoryLog&) = delete;
  MemoryLog& operator=(const MemoryLog&) = delete;

  const std::vector<LoggedEvent>& events() const { return events_; }
  const std::vector<LoggedEvent>& failures() const { return failures_; }

  void observe(const MemoryEvent& event) noexcept override { events_.push_back(copy(event)); }
  void fail(const MemoryEvent& event) noexcept override { failures_.push_back(copy(event)); }

 private:
  static LoggedEvent copy(const MemoryEvent& event) {
    return {event.block,
            event.change,
            event.category,
            std::string(event.name),
            std::string(event.scope),
            event.reserved};
  }

  Allocator& allocator_;
  std::vector<LoggedEvent> events_, failures_;
};

}  // namespace sketchgrad::test
