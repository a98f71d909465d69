#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/tools/memory/summary.h"

// What is different between two runs, each at its peak.
namespace sketchgrad::memory {

// Bytes in either run.
struct Change {
  int64_t a = 0;
  int64_t b = 0;
  int64_t bytes() const { return b - a; }
};

struct CategoryChange {
  Category category{};
  Change change;
};

// Of all blocks of this name and category. What one of the runs lacks has 0 bytes there.
struct TensorChange {
  std::string name;
  Category category{};
  Change change;
};

// Lists are in falling order of the change's size; of tensors, those with a change.
struct Difference {
  std::vector<std::string> arguments_a;
  std::vector<std::string> arguments_b;
  Change peak;
  Change peak_reserved;
  Change state;  // of the optimizer
  std::vector<CategoryChange> categories;
  std::vector<TensorChange> tensors;
};

Difference difference(const Summary& a, const Summary& b);

// For a terminal.
std::string difference_text(const Difference& difference);
// Format "sketchgrad-memory-diff", version 1.
nlohmann::json difference_json(const Difference& difference);

}  // namespace sketchgrad::memory
