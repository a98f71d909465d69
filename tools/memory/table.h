#pragma once

#include <string>
#include <vector>

namespace sketchgrad::memory {

// Columns as wide as their widest cells.
class Table {
 public:
  // One character a column: '<' for words, '>' for numbers.
  Table(std::string alignment, std::vector<std::string> titles);
  void add(std::vector<std::string> row);
  std::string text() const;

 private:
  std::string alignment_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace sketchgrad::memory
