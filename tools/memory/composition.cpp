#include "sketchgrad/tools/memory/composition.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace sketchgrad::memory {

namespace {

std::string_view before_dot(std::string_view name) { return name.substr(0, name.find('.')); }

std::string_view innermost(std::string_view scope) {
  scope.remove_prefix(scope.rfind('/') + 1);  // npos + 1 is 0
  constexpr std::string_view kStep = "step ";
  if (scope.starts_with(kStep)) scope.remove_prefix(kStep.size());
  return scope;
}

}  // namespace

LayerNames::LayerNames(const MemoryRecord& record) {
  const auto add_layer = [&](const auto& entry) {
    if (entry.category != Category::parameter) return;
    layers_.emplace(before_dot(record.text(entry.name)));
  };
  for (const RecordedStretch& stretch : record.recorded) {
    for (const RecordedBlock& block : stretch.live) add_layer(block);
    for (const RecordedEvent& event : stretch.events) add_layer(event);
  }
}

std::string LayerNames::layer_of(std::string_view name, std::string_view scope) const {
  for (const std::string_view layer : {before_dot(name), before_dot(innermost(scope))}) {
    if (layers_.contains(layer)) return std::string(layer);
  }
  return "(other)";
}

Composition compose(const MemoryRecord& record, const LayerNames& layers,
                    const std::vector<RecordedBlock>& live) {
  Composition result;
  std::map<std::string, MemoryFigures> by_layer;
  std::map<std::tuple<std::string, std::string, Category>, TensorBytes> by_tensor;
  for (const RecordedBlock& block : live) {
    const std::string& name = record.text(block.name);
    const std::string& scope = record.text(block.scope);
    const std::string layer = layers.layer_of(name, scope);
    result.blocks.push_back({name, layer, block.category, scope, block.bytes});
    result.categories.add(block.category, block.bytes);
    by_layer[layer].add(block.category, block.bytes);
    TensorBytes& tensor = by_tensor[{name, layer, block.category}];
    tensor = {name, layer, block.category, tensor.bytes + block.bytes, tensor.blocks + 1};
  }
  for (const auto& [layer, bytes] : by_layer) result.layers.push_back({layer, bytes});
  std::stable_sort(
      result.layers.begin(), result.layers.end(),
      [](const LayerBytes& a, const LayerBytes& b) { return a.bytes.total > b.bytes.total; });
  for (const auto& [key, tensor] : by_tensor) result.tensors.push_back(tensor);
  std::stable_sort(result.tensors.begin(), result.tensors.end(),
                   [](const TensorBytes& a, const TensorBytes& b) { return a.bytes > b.bytes; });
  return result;
}

}  // namespace sketchgrad::memory
