#include "sketchgrad/apps/common/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/framework/memory_trace.h"

namespace sketchgrad::apps {

namespace {

constexpr size_t kBarCells = 24;
constexpr size_t kLeastBarCells = 5;
constexpr double kRedrawSeconds = 0.2;

size_t terminal_columns(std::FILE* stream) {
  winsize size{};
  const bool known = ::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string bar(int64_t done, int64_t total, size_t cells) {
  const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0.0;
  const auto full = static_cast<size_t>(std::clamp(part, 0.0, 1.0) * static_cast<double>(cells));
  return "[" + std::string(full, '#') + std::string(cells - full, '.') + "]";
}

// A trace comes to results that mean nothing.
bool silent() { return MemoryTrace::active(); }

}  // namespace

std::string format_seconds(double seconds) {
  if (!(seconds >= 0.0) || std::isinf(seconds)) return "-:--";
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  const int64_t hours = whole / 3600;
  const int64_t minutes = whole / 60 % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60)
                   : fmt::format("{}:{:02}", minutes, whole % 60);
}

std::string progress_line(std::string_view label, int64_t done, int64_t total,
                          std::string_view text, size_t columns) {
  const std::string figures =
      total > 0 ? fmt::format("{}/{} {}", done, total, text) : fmt::format("{} {}", done, text);
  constexpr size_t kAround = 4;  // two brackets, two spaces
  const size_t taken = label.size() + figures.size() + kAround;
  const size_t cells = std::min(kBarCells, columns - std::min(columns, taken));
  std::string line = cells < kLeastBarCells
                         ? fmt::format("{} {}", label, figures)
                         : fmt::format("{} {} {}", label, bar(done, total, cells), figures);
  line.resize(std::min(line.size(), columns));
  return line;
}

Progress::Progress(std::string label, int64_t total, std::FILE* stream, double quiet_seconds)
    : label_(std::move(label)),
      total_(total),
      stream_(stream),
      terminal_(::isatty(::fileno(stream)) == 1),
      interval_(terminal_ ? kRedrawSeconds : quiet_seconds),
      last_(Clock::now()) {}

Progress::~Progress() { clear(); }

bool Progress::due() const { return !silent() && Clock::now() - last_ >= interval_; }

void Progress::update(int64_t done, const std::string& text) {
  if (!due()) return;
  last_ = Clock::now();
  if (!terminal_) {
    print_line(stream_, fmt::format("{} {}/{} {}", label_, done, total_, text));
    return;
  }
  const std::string line = progress_line(label_, done, total_, text, terminal_columns(stream_) - 1);
  clear();
  std::fputs(line.c_str(), stream_);
  std::fflush(stream_);
}

// Also where somebody else's bar stands: that of the job around this one.
void Progress::clear() {
  if (terminal_ && !silent()) std::fputs("\r\x1b[K", stream_);
}

void Progress::say(std::string_view line) {
  if (silent()) return;
  clear();
  print_line(stream_, line);
}

}  // namespace sketchgrad::apps
