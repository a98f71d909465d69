#include "sketchgrad/apps/common/metrics_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const std::string& path, int reason) {
  throw IoError(fmt::format("[metrics] {}: cannot be written: {}", path, std::strerror(reason)));
}

// Whether a line stays when its run goes on after `step`. What is no entry of a log is not ours to
// judge, unless it is the half line of a run that was killed.
bool stays(const std::string& line, bool torn, int64_t step) {
  const auto entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (entry.is_discarded()) return !torn;
  return !entry.is_object() || !entry.contains("step") || !entry["step"].is_number_integer() ||
         entry["step"].get<int64_t>() <= step;
}

// Copies the lines that stay; returns whether anything is different.
bool copy_lines(std::istream& file, int64_t step, std::ostream& kept) {
  bool changed = false;
  for (std::string line; std::getline(file, line);) {
    const bool torn = file.eof();
    const bool staying = stays(line, torn, step);
    if (staying) kept << line << '\n';
    changed = changed || torn || !staying;
  }
  return changed;
}

// Takes away what the run will do again.
void drop_lines_after(int64_t step, const std::string& path) {
  std::error_code none;
  if (!fs::is_regular_file(path, none)) return;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path, errno);
  std::ostream nowhere(nullptr);
  if (!copy_lines(file, step, nowhere)) return;
  file.clear();
  file.seekg(0);
  // The file itself, not a link to it.
  replace_file("metrics", fs::canonical(path).string(),
               [&](std::ostream& kept) { copy_lines(file, step, kept); });
}

}  // namespace

MetricsLog::MetricsLog(const std::string& path) : path_(path), file_(path, std::ios::trunc) {
  if (!file_) fail(path, errno);
}

MetricsLog::MetricsLog(const std::string& path, int64_t step) : path_(path) {
  drop_lines_after(step, path);
  file_.open(path, std::ios::app);
  if (!file_) fail(path, errno);
}

void MetricsLog::write(const nlohmann::json& entry) {
  if (!file_.is_open()) return;
  file_ << entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n'
        << std::flush;
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
