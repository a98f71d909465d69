#pragma once

#include <sys/resource.h>

#include <csignal>

namespace sketchgrad::test {

// The bound on a file's size stands for a full disk: a write is cut short, the next one refused.
class FileSizeBound {
 public:
  explicit FileSizeBound(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit bound{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &bound);
  }
  ~FileSizeBound() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace sketchgrad::test
