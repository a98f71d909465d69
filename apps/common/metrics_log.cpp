#include "sketchgrad/apps/common/metrics_log.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

MetricsLog::MetricsLog(const std::string& path, bool append)
    : path_(path), file_(path, append ? std::ios::app : std::ios::trunc) {
  if (!file_) {
    throw IoError(fmt::format("[metrics] {}: cannot be written: {}", path, std::strerror(errno)));
  }
}

void MetricsLog::write(const nlohmann::json& entry) {
  if (!file_.is_open()) return;
  file_ << entry.dump() << '\n' << std::flush;
  if (!file_) {
    throw IoError(fmt::format("[metrics] {}: cannot be written: {}", path_, std::strerror(errno)));
  }
}

}  // namespace sketchgrad::apps
