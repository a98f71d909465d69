#include "sketchgrad/apps/common/report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace fs = std::filesystem;

namespace {

std::string temporary_path(const std::string& path) {
  return fmt::format("{}.{}.tmp", path, ::getpid());
}

[[noreturn]] void fail(const std::string& path, const std::string& reason) {
  throw IoError(fmt::format("[report] {}: cannot be written: {}", path, reason));
}

// Renaming would replace a device or a pipe, and fails over a folder.
void check_replaceable(const std::string& path) {
  std::error_code none;
  const fs::file_status status = fs::status(path, none);
  if (fs::is_directory(status)) fail(path, std::strerror(EISDIR));
  if (fs::exists(status) && !fs::is_regular_file(status)) fail(path, "it is no regular file");
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  if (!file) {
    const std::string reason = std::strerror(errno);
    std::remove(path.c_str());
    fail(path, reason);
  }
}

}  // namespace

void write_json(const std::string& path, const nlohmann::json& value) {
  check_replaceable(path);
  const std::string temporary = temporary_path(path);
  write_text(temporary, value.dump(2) + "\n");
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    const std::string reason = std::strerror(errno);
    std::remove(temporary.c_str());
    fail(path, reason);
  }
}

void check_writable(const std::string& path) {
  check_replaceable(path);
  const std::string temporary = temporary_path(path);
  write_text(temporary, "");
  std::remove(temporary.c_str());
}

nlohmann::json to_json(const MemoryFigures& figures) {
  nlohmann::json result;
  for (int i = 0; i < kCategoryCount; ++i) {
    const auto category = static_cast<Category>(i);
    result[std::string(to_string(category))] = figures[category];
  }
  result["total"] = figures.total;
  return result;
}

std::string format_memory_table(const MemoryFigures& peak, const MemoryFigures& at_peak) {
  const auto line = [](std::string_view name, int64_t own, int64_t at) {
    return fmt::format("{:<16}{:>14}{:>20}\n", name, format_bytes(own), format_bytes(at));
  };
  std::string table =
      fmt::format("{:<16}{:>14}{:>20}\n", "memory", "own peak", "at the total's peak");
  for (int i = 0; i < kCategoryCount; ++i) {
    const auto category = static_cast<Category>(i);
    table += line(to_string(category), peak[category], at_peak[category]);
  }
  return table + line("total", peak.total, at_peak.total);
}

int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("VmHWM:")) continue;
    int64_t kibibytes = 0;
    std::istringstream(line.substr(6)) >> kibibytes;
    return kibibytes * 1024;
  }
  return 0;
}

}  // namespace sketchgrad::apps
