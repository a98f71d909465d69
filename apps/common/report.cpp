#include "sketchgrad/apps/common/report.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "sketchgrad/apps/common/output_file.h"

namespace sketchgrad::apps {

void write_json(const std::string& path, const nlohmann::json& value) {
  // Paths need not be UTF-8, and a path that is not must not cost a finished run its report.
  const std::string text = value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  replace_file("report", path, [&](std::ostream& file) { file << text << '\n'; });
}

nlohmann::json to_json(const MemoryFigures& figures) {
  nlohmann::json result;
  for (const Category category : kCategories) {
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
  for (const Category category : kCategories) {
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
