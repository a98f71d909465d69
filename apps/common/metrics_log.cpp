#include "sketchgrad/apps/common/metrics_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const std::string& path, int reason) {
  throw IoError(fmt::format("[metrics] {}: cannot be written: {}", path, std::strerror(reason)));
}

// A run that was killed may have left half a line.
bool ends_within_line(const std::string& path) {
  std::error_code none;
  if (!fs::is_regular_file(path, none)) return false;
  std::ifstream file(path, std::ios::binary);
  file.seekg(-1, std::ios::end);
  char last = '\n';
  file.get(last);
  return file && last != '\n';
}

}  // namespace

MetricsLog::MetricsLog(const std::string& path, bool append) : path_(path) {
  const bool torn = append && ends_within_line(path);
  file_.open(path, append ? std::ios::app : std::ios::trunc);
  if (torn) file_ << '\n' << std::flush;
  if (!file_) fail(path, errno);
}

void MetricsLog::write(const nlohmann::json& entry) {
  if (!file_.is_open()) return;
  file_ << entry.dump() << '\n' << std::flush;
  if (!file_) fail(path_, errno);
}

void check_metrics_path(const std::string& path) {
  std::error_code none;
  if (fs::is_directory(path, none)) fail(path, EISDIR);
  if (fs::exists(path, none)) {
    // Opening a pipe and closing it again would end its reader.
    if (::access(path.c_str(), W_OK) != 0) fail(path, errno);
    return;
  }
  if (!std::ofstream(path, std::ios::app)) fail(path, errno);
  std::remove(path.c_str());
}

}  // namespace sketchgrad::apps
