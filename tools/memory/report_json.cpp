#include "sketchgrad/tools/memory/report_json.h"

#include <algorithm>
#include <string>
#include <vector>

#include "sketchgrad/framework/memory.h"

namespace sketchgrad::memory {

namespace {

using nlohmann::json;

json by_category(const MemoryFigures& figures) {
  json result;
  for (const Category category : kCategories) {
    result[std::string(to_string(category))] = figures[category];
  }
  return result;
}

json largest(const std::vector<Block>& blocks, int64_t top) {
  json result = json::array();
  for (size_t i = 0; i < std::min(blocks.size(), static_cast<size_t>(top)); ++i) {
    const Block& block = blocks[i];
    result.push_back({{"name", block.name},
                      {"layer", block.layer},
                      {"category", to_string(block.category)},
                      {"scope", block.scope},
                      {"bytes", block.bytes}});
  }
  return result;
}

json to_json(const Peak& peak) {
  json layers = json::array(), tensors = json::array();
  for (const LayerBytes& layer : peak.live.layers) {
    layers.push_back({{"layer", layer.layer},
                      {"bytes", layer.bytes.total},
                      {"by_category", by_category(layer.bytes)}});
  }
  for (const TensorBytes& tensor : peak.live.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"layer", tensor.layer},
                       {"category", to_string(tensor.category)},
                       {"bytes", tensor.bytes},
                       {"blocks", tensor.blocks}});
  }
  return {{"bytes", peak.live.categories.total},
          {"reserved", peak.reserved},
          {"stretch", peak.stretch},
          {"step", peak.step},
          {"scope", peak.scope},
          {"by_category", by_category(peak.live.categories)},
          {"by_layer", layers},
          {"by_tensor", tensors}};
}

json to_json(const std::vector<Temporaries>& temporaries) {
  json result = json::array();
  for (const Temporaries& entry : temporaries) {
    result.push_back({{"op", entry.op},
                      {"peak_bytes", entry.peak_bytes},
                      {"total_bytes", entry.total_bytes},
                      {"allocations", entry.allocations}});
  }
  return result;
}

// What was live is empty where it is not known.
json to_json(const Failure& failure, int64_t top) {
  return {{"bytes", failure.bytes},
          {"category", to_string(failure.category)},
          {"name", failure.name},
          {"scope", failure.scope},
          {"by_category", failure.live ? by_category(failure.live->categories) : json::object()},
          {"largest", failure.live ? largest(failure.live->blocks, top) : json::array()}};
}

json to_json(const std::vector<MemoryStretch>& stretches) {
  json result = json::array();
  for (const MemoryStretch& stretch : stretches) {
    result.push_back({{"label", stretch.label},
                      {"step", stretch.step},
                      {"begin_ns", stretch.begin},
                      {"by_category", by_category(stretch.at_peak)},
                      {"bytes", stretch.at_peak.total}});
  }
  return result;
}

}  // namespace

json report_json(const Summary& summary, int64_t top) {
  const Peak& peak = summary.peak;
  const int64_t live = peak.live.categories.total;
  json report = {{"format", "sketchgrad-memory-report"},
                 {"version", 1},
                 {"arguments", summary.arguments},
                 {"device", summary.device},
                 {"planned", summary.planned},
                 {"steps", summary.steps},
                 {"events", summary.events},
                 {"peak", to_json(peak)},
                 {"largest", largest(peak.live.blocks, top)},
                 {"temporaries", to_json(summary.temporaries)},
                 {"cache",
                  {{"live", live},
                   {"reserved", peak.reserved},
                   {"cached_or_rounding", peak.reserved - live},
                   {"peak_reserved", summary.peak_reserved}}},
                 {"device_memory", nullptr},
                 {"optimizer_state",
                  {{"bytes", summary.state},
                   {"dense_bytes", summary.dense_state},
                   {"saved_bytes", summary.dense_state - summary.state}}},
                 {"failure", nullptr},
                 {"stretches", to_json(summary.stretches)}};
  if (const auto& device = summary.device_memory) {
    report["device_memory"] = {
        {"free", device->free}, {"total", device->total}, {"context", summary.context}};
  }
  if (summary.failure) report["failure"] = to_json(*summary.failure, top);
  return report;
}

}  // namespace sketchgrad::memory
