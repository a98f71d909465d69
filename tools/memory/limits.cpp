#include "sketchgrad/tools/memory/limits.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/framework/check.h"
#include "sketchgrad/framework/memory.h"
#include "sketchgrad/tools/memory/composition.h"
#include "sketchgrad/tools/memory/table.h"

namespace sketchgrad::memory {

std::map<std::string, int64_t> own_peaks(const MemoryRecord& record) {
  std::map<std::string, int64_t> peaks = {{"total", record.own_peaks.total},
                                          {"reserved", record.peak_reserved}};
  for (const Category category : kCategories) {
    peaks[std::string(to_string(category))] = record.own_peaks[category];
  }
  const LayerNames layers(record);
  for (const RecordedStretch& stretch : record.recorded) {
    std::map<std::string, int64_t> now;
    std::map<int64_t, std::string> layer_of;  // of a live block
    const auto change = [&](const auto& entry, int64_t bytes) {
      const std::string& layer = layer_of[entry.block];
      now[layer] += bytes;
      peaks[layer] = std::max(peaks[layer], now[layer]);
    };
    const auto take = [&](const auto& entry, int64_t bytes) {
      layer_of[entry.block] =
          "layer:" + layers.layer_of(record.text(entry.name), record.text(entry.scope));
      change(entry, bytes);
    };
    for (const RecordedBlock& block : stretch.live) take(block, block.bytes);
    for (const RecordedEvent& event : stretch.events) {
      if (event.change > 0) {
        take(event, event.change);
      } else {
        change(event, event.change);
        layer_of.erase(event.block);
      }
    }
  }
  return peaks;
}

Limit parse_limit(const std::string& flag, const std::string& text) {
  const size_t equals = text.rfind('=');
  check(equals != std::string::npos && equals > 0, "{}: {} is no NAME=BYTES, as total=2GiB", flag,
        text);
  return {text.substr(0, equals), apps::parse_bytes(flag, text.substr(equals + 1))};
}

std::vector<CheckedLimit> check_limits(const std::map<std::string, int64_t>& peaks,
                                       const std::vector<Limit>& limits) {
  std::vector<std::string> known;
  for (const auto& [name, bytes] : peaks) known.push_back(name);
  std::vector<CheckedLimit> result;
  for (const Limit& limit : limits) {
    const auto peak = peaks.find(limit.name);
    check(peak != peaks.end(), "[memory check] {} is nothing that the profile has figures of: {}",
          limit.name, fmt::join(known, ", "));
    result.push_back({limit, peak->second});
  }
  return result;
}

std::string limits_text(const std::vector<CheckedLimit>& limits) {
  Table table(">>><<", {"limit", "actual", "left", "", "peak of"});
  for (const CheckedLimit& entry : limits) {
    table.add({format_bytes(entry.limit.bytes), format_bytes(entry.actual),
               format_bytes(entry.limit.bytes - entry.actual), entry.holds() ? "" : "OVER",
               entry.limit.name});
  }
  return table.text();
}

}  // namespace sketchgrad::memory
