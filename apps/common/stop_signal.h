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
};

}  // namespace sketchgrad::apps
