#include "sketchgrad/kernels/staging_ring.h"

#include <algorithm>
#include <cstring>

namespace sketchgrad::kernels {

StagingRing::StagingRing(void* memory, size_t slots, size_t slot_bytes)
    : memory_(static_cast<char*>(memory)), slots_(slots), slot_bytes_(slot_bytes) {}

void StagingRing::copy(StagingStream& stream, const void* from, void* to, size_t bytes) {
  const std::lock_guard lock(mutex_);
  const char* source = static_cast<const char*>(from);
  char* target = static_cast<char*>(to);
  while (bytes > 0) {
    const size_t piece = std::min(bytes, slot_bytes_);
    char* const slot = memory_ + next_ * slot_bytes_;
    // The stream works in order, so the slot used longest ago is the first to be free.
    stream.wait(next_);
    std::memcpy(slot, source, piece);
    stream.copy(slot, target, piece);
    stream.record(next_);
    next_ = (next_ + 1) % slots_;
    source += piece;
    target += piece;
    bytes -= piece;
  }
}

}  // namespace sketchgrad::kernels
