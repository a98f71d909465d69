#include "sketchgrad/apps/common/report.h"

#include <fmt/format.h>

#include <fstream>

#include "sketchgrad/apps/common/output_file.h"

namespace sketchgrad::apps {

void write_json(const std::string& path, const nlohmann::json& value) {
  // Paths need not be UTF-8, and a path that is not must not cost a finished run its report.
  const std::string text = value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  replace_file("report", path, [&](std::ostream& file) { file << text << '\n'; });
}

std::string problem_of(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return text.starts_with("[json.exception.") && end != std::string::npos ? text.substr(end + 2)
                                                                          : text;
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

int64_t number_behind(const std::string& name, const std::string& path) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    int64_t number = 0;
    if (word == name && file >> number) return number;
  }
  return 0;
}

int64_t peak_resident_bytes() { return number_behind("VmHWM:", "/proc/self/status") * 1024; }

}  // namespace sketchgrad::apps
