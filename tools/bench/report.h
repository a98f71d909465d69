#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/tools/bench/measure.h"

namespace sketchgrad::bench {

// The machine's best rates in this run, which floors are computed from.
struct Peaks {
  double memory_bandwidth = 0;  // bytes / s, arrays far larger than the caches
  double cache_bandwidth = 0;   // bytes / s, arrays in the second-level caches
  double flops = 0;             // single-precision operations / s

  // Seconds below which `work` cannot be done: its bytes or its flops, whichever take longer.
  double floor(const Work& work) const;
  bool bound_by_flops(const Work& work) const;
};

// Prints a line a measurement and keeps all for the JSON report.
class Report {
 public:
  void set_peaks(const Peaks& peaks) { peaks_ = peaks; }
  const Peaks& peaks() const { return peaks_; }

  void begin_group(const std::string& name, const std::string& description);
  // `ratio`: of the time to that of the group's base.
  void add(const std::string& name, const Work& work, const Timing& timing,
           std::optional<double> ratio = {});
  // A remark of the group: "10523 tokens/s".
  void note(const std::string& name, double value, const std::string& unit);

  const nlohmann::json& lines() const { return lines_; }

 private:
  Peaks peaks_;
  std::string group_;
  nlohmann::json lines_ = nlohmann::json::array();
};

}  // namespace sketchgrad::bench
