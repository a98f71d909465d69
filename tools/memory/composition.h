#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/framework/memory_profile.h"

// What memory holds at one moment of a profile.
namespace sketchgrad::memory {

// The layer that a block is of. Layers are what the names of parameters begin with, up to the first
// '.', wherever a recorded stretch has parameters.
class LayerNames {
 public:
  explicit LayerNames(const MemoryRecord& record);
  // By the block's name ("lstm.h_l0"), or else by the innermost scope that it was allocated in
  // ("backward/lstm.backward", "optimizer/step lstm.weight_ih_l0"); "(other)" for no layer.
  std::string layer_of(std::string_view name, std::string_view scope) const;

 private:
  std::set<std::string, std::less<>> layers_;
};

struct Block {
  std::string name;
  std::string layer;
  Category category{};
  std::string scope;  // that it was allocated in
  int64_t bytes = 0;
};

struct LayerBytes {
  std::string layer;
  MemoryFigures bytes;
};

// All blocks of the same name, layer and category.
struct TensorBytes {
  std::string name;
  std::string layer;
  Category category{};
  int64_t bytes = 0;
  int64_t blocks = 0;
};

// Lists are in falling order of bytes.
struct Composition {
  MemoryFigures categories;
  std::vector<LayerBytes> layers;
  std::vector<TensorBytes> tensors;
  std::vector<Block> blocks;
};

// Of blocks of the record, the largest first (live_after).
Composition compose(const MemoryRecord& record, const LayerNames& layers,
                    const std::vector<RecordedBlock>& live);

}  // namespace sketchgrad::memory
