#include "sketchgrad/apps/common/stop_signal.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

namespace sketchgrad::apps {

namespace {

std::atomic<bool> stop_requested{false};
std::atomic<int> wake_descriptor{-1};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "they are used by a signal handler");

extern "C" void note_signal(int) {
  const int interrupted = errno;
  stop_requested = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_descriptor, &one, sizeof one);
  errno = interrupted;
}

}  // namespace

StopSignal::StopSignal() {
  stop_requested = false;
  wake_descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct sigaction action {};
  action.sa_handler = note_signal;
  // The first signal puts the default back.
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

StopSignal::~StopSignal() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  const int descriptor = wake_descriptor.exchange(-1);
  if (descriptor >= 0) ::close(descriptor);
}

bool StopSignal::requested() { return stop_requested; }

int StopSignal::descriptor() { return wake_descriptor; }

}  // namespace sketchgrad::apps
