#include "sketchgrad/apps/common/stop_signal.h"

#include <atomic>
#include <csignal>

namespace sketchgrad::apps {

namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "it is written by a signal handler");

extern "C" void note_signal(int) { stop_requested = true; }

}  // namespace

StopSignal::StopSignal() {
  stop_requested = false;
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
}

bool StopSignal::requested() { return stop_requested; }

}  // namespace sketchgrad::apps
