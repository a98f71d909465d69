#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "sketchgrad/framework/memory.h"

namespace {

// Of this thread, the allocations that succeed before one fails; negative: none fails.
thread_local int64_t allocations_before_failure = -1;

}  // namespace

void* operator new(size_t bytes) {
  if (allocations_before_failure >= 0 && allocations_before_failure-- == 0) throw std::bad_alloc();
  void* const pointer = std::malloc(bytes > 0 ? bytes : 1);
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}
// Replaced as well: what it gives is taken back by the delete below, and sanitizers have their own.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes > 0 ? bytes : 1);
}
void operator delete(void* pointer) noexcept { std::free(pointer); }
void operator delete(void* pointer, size_t) noexcept { std::free(pointer); }

namespace sketchgrad {
namespace {

// Hands out addresses that nobody may touch.
class FakeUpstream final : public UpstreamMemory {
 public:
  void* allocate(size_t bytes) override {
    next_ += bytes;
    return reinterpret_cast<void*>(next_);
  }
  void release(void*, size_t) noexcept override {}

 private:
  uintptr_t next_ = uintptr_t{1} << 44;
};

struct CountedEvents final : MemoryObserver {
  int count = 0;
  void observe(const MemoryEvent&) noexcept override { ++count; }
};

TEST_CASE("an allocation that fails half-way leaves no trace") {
  // Too long for the string itself to hold.
  constexpr std::string_view kName = "the name of an array that has a long name";
  int failures = 0;
  for (int64_t before_failure = 0;; ++before_failure) {
    Allocator memory(std::make_unique<FakeUpstream>());
    CountedEvents events;
    memory.add_observer(events);
    void* const other = memory.allocate(100, Category::data, "other");
    allocations_before_failure = before_failure;
    void* pointer = nullptr;
    try {
      pointer = memory.allocate(1000, Category::activation, kName);
    } catch (const std::bad_alloc&) {
      ++failures;
    }
    const bool reached = allocations_before_failure < 0;
    allocations_before_failure = -1;

    CHECK(memory.current().total == (pointer != nullptr ? 1100 : 100));
    CHECK(memory.live_blocks().size() == (pointer != nullptr ? 2 : 1));
    CHECK(events.count == (pointer != nullptr ? 2 : 1));
    memory.release(pointer);
    memory.release(other);
    CHECK(memory.current().total == 0);
    if (!reached) break;
  }
  CHECK(failures >= 2);  // the name, and the table of live blocks
}

}  // namespace
}  // namespace sketchgrad
