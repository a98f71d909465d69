#include "sketchgrad/tools/memory/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace sketchgrad::memory {

Table::Table(std::string alignment, std::vector<std::string> titles)
    : alignment_(std::move(alignment)), rows_{std::move(titles)} {}

void Table::add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

std::string Table::text() const {
  std::vector<size_t> widths(alignment_.size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string result;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      line += alignment_[i] == '<' ? fmt::format("{:<{}}", row[i], widths[i])
                                   : fmt::format("{:>{}}", row[i], widths[i]);
    }
    result += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return result;
}

}  // namespace sketchgrad::memory
