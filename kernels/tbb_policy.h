#pragma once

#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cstdint>

#include "sketchgrad/kernels/skipped_loops.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace sketchgrad::kernels {

#if defined(__SANITIZE_THREAD__)
// Tells the thread sanitizer what the packaged TBB, which is not instrumented, hides from it: tasks
// begin after the fork and end before the join. Among themselves they stay unordered.
class ForkJoin {
 public:
  ForkJoin() { __tsan_release(&fork_); }
  ~ForkJoin() { __tsan_acquire(&join_); }
  // Not inlined: reports whose innermost frame is TBB's are suppressed, and these are ours.
  template <class Body>
  [[gnu::noinline]] void task(const Body& body) {
    __tsan_acquire(&fork_);
    body();
    __tsan_release(&join_);
  }

 private:
  char fork_ = 0;
  char join_ = 0;
};
#else
struct ForkJoin {
  template <class Body>
  void task(const Body& body) {
    body();
  }
};
#endif

// The CPU backend's loop policy (see for_each.h). Calls may be nested.
struct TbbPolicy {
  template <class Body>  // body(block)
  static void for_each_block(int64_t blocks, const Body& body) {
    if (SkippedLoops::active()) return;
    if (blocks == 1) {
      body(int64_t{0});
      return;
    }
    ForkJoin fork_join;
    tbb::parallel_for(int64_t{0}, blocks, [&](int64_t b) { fork_join.task([&] { body(b); }); });
  }
  template <class Body>  // body(first, last)
  static void for_each_span(int64_t blocks, const Body& body) {
    // An arena does not know of a bound on all threads.
    const auto allowed = static_cast<int64_t>(
        tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism));
    const int64_t arena = tbb::this_task_arena::max_concurrency();
    const int64_t spans = std::min({blocks, arena, allowed});
    for_each_block(spans, [&](int64_t s) { body(s * blocks / spans, (s + 1) * blocks / spans); });
  }
};

}  // namespace sketchgrad::kernels
