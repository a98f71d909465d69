#pragma once

namespace sketchgrad::kernels {

// While one lives, the CPU's loop policy leaves out the loops that this thread begins.
class SkippedLoops {
 public:
  SkippedLoops() { active_ = true; }
  ~SkippedLoops() { active_ = before_; }
  SkippedLoops(const SkippedLoops&) = delete;
  SkippedLoops& operator=(const SkippedLoops&) = delete;

  static bool active() { return active_; }

 private:
  static inline thread_local bool active_ = false;
  bool before_ = active_;
};

}  // namespace sketchgrad::kernels
