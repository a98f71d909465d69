#pragma once

#include <memory>

namespace sketchgrad::apps {

// Bounds the threads of all kernels while it lives.
class ThreadLimit {
 public:
  // 0: as many as there are processors.
  explicit ThreadLimit(int count);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

  int count() const { return count_; }

 private:
  struct Control;
  int count_;
  std::unique_ptr<Control> control_;
};

}  // namespace sketchgrad::apps
