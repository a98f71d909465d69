#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <fstream>
#include <string>

namespace sketchgrad::apps {

// One JSON object a line, each flushed when it is written.
class MetricsLog {
 public:
  // Writes nowhere.
  MetricsLog() = default;
  // A new file. Throws IoError.
  explicit MetricsLog(const std::string& path);
  // Goes on after what is there, of a run that goes on after `step`: entries of later steps, and
  // the half line that a killed run can leave, are taken away. Throws IoError.
  MetricsLog(const std::string& path, int64_t step);

  // Throws IoError.
  void write(const nlohmann::json& entry);

 private:
  std::string path_;
  std::ofstream file_;
};

// Throws IoError where a MetricsLog would. Leaves what is there as it is.
void check_metrics_path(const std::string& path);

}  // namespace sketchgrad::apps
