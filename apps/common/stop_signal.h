#pragma once

namespace sketchgrad::apps {

// While it lives, SIGINT and SIGTERM are noted instead of ending the program, so that a step can be
// finished and a checkpoint written. A second signal ends the program at once. One at a time.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // A signal came since the latest StopSignal was made.
  static bool requested();
  // Readable from then on, for a poll() that waits for something else as well: reads are restarted
  // after a signal, and it may come right before one. -1, which poll() ignores, where there is
  // none.
  static int descriptor();
};

}  // namespace sketchgrad::apps
