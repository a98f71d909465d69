#pragma once

#include <cstddef>
#include <mutex>

namespace sketchgrad::kernels {

// What a StagingRing needs of a stream, which runs later, and in order, what is queued on it.
class StagingStream {
 public:
  virtual ~StagingStream() = default;
  // Queues a copy that reads `staged` when it runs.
  virtual void copy(const void* staged, void* to, size_t bytes) = 0;
  // Queues a mark that stands for everything queued before it; it replaces the slot's last one.
  virtual void record(size_t slot) = 0;
  // Returns when the slot's last mark has been reached, and at once where there is none.
  virtual void wait(size_t slot) = 0;
};

// Queues copies from ordinary memory without waiting for what the stream has to do before them.
// Each copy goes through one of a few slots of memory that the stream may read at any time, and a
// slot is written again only when its copy has run. Thread-safe.
class StagingRing {
 public:
  // `memory` holds slots * slot_bytes bytes, both at least 1. It stays the caller's, and must live
  // until the last copy has run.
  StagingRing(void* memory, size_t slots, size_t slot_bytes);

  // `from` may change as soon as this returns. Waits only while all slots are in flight. More bytes
  // than a slot holds take several. Pass the same stream, or one that shares its marks, every time.
  void copy(StagingStream& stream, const void* from, void* to, size_t bytes);

 private:
  std::mutex mutex_;
  char* memory_;
  size_t slots_;
  size_t slot_bytes_;
  size_t next_ = 0;
};

}  // namespace sketchgrad::kernels
