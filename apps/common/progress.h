#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace sketchgrad::apps {

// "1:02:03" or "4:05"; "-:--" where it is not known (negative).
std::string format_seconds(double seconds);

// "label [###...] done/total text" in at most `columns` columns: the bar takes what the rest
// leaves, and is dropped where that is too little. Without a total (0) it stays empty.
std::string progress_line(std::string_view label, int64_t done, int64_t total,
                          std::string_view text, size_t columns);

// How far a long job is. On a terminal one line is redrawn a few times a second; elsewhere a line
// is written every `quiet_seconds`. A stream that cannot be written is no error.
class Progress {
 public:
  Progress(std::string label, int64_t total, std::FILE* stream = stderr, double quiet_seconds = 20);
  // Takes the bar away.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Whether update would write now: spares making its text.
  bool due() const;
  void update(int64_t done, const std::string& text);
  // A line that stays.
  void say(std::string_view line);

 private:
  using Clock = std::chrono::steady_clock;
  void clear();

  std::string label_;
  int64_t total_;
  std::FILE* stream_;
  bool terminal_;
  std::chrono::duration<double> interval_;
  Clock::time_point last_;
};

}  // namespace sketchgrad::apps
