#pragma once

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>

namespace sketchgrad::apps {

// One JSON object a line, each flushed when it is written.
class MetricsLog {
 public:
  // Writes nowhere.
  MetricsLog() = default;
  // `append`: go on after what is there, on a line of its own. Throws IoError.
  MetricsLog(const std::string& path, bool append);

  void write(const nlohmann::json& entry);

 private:
  std::string path_;
  std::ofstream file_;
};

// Throws IoError where a MetricsLog would. Leaves what is there as it is.
void check_metrics_path(const std::string& path);

}  // namespace sketchgrad::apps
