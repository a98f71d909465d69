#include "sketchgrad/framework/memory_trace.h"

#include <atomic>

#include "sketchgrad/framework/check.h"
#include "sketchgrad/framework/memory.h"

namespace sketchgrad {

namespace {
std::atomic<bool> tracing{false};
}

MemoryTrace::MemoryTrace() : limit_(allocator().limit()) {
  check(!tracing.exchange(true), "[memory trace] one within another");
  allocator().restart_cache();
  allocator().set_limit(0);
}

MemoryTrace::~MemoryTrace() {
  allocator().set_limit(limit_);
  allocator().restart_cache();
  tracing = false;
}

bool MemoryTrace::active() { return tracing.load(std::memory_order_relaxed); }

}  // namespace sketchgrad
