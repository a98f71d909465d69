#include "sketchgrad/tools/memory/diff.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <tuple>
#include <utility>

#include "sketchgrad/tools/memory/table.h"

namespace sketchgrad::memory {

namespace {

using nlohmann::json;

template <typename Entry>
void largest_first(std::vector<Entry>& list) {
  std::stable_sort(list.begin(), list.end(), [](const Entry& a, const Entry& b) {
    return std::abs(a.change.bytes()) > std::abs(b.change.bytes());
  });
}

// "+1.00 KiB"
std::string signed_bytes(int64_t bytes) { return (bytes > 0 ? "+" : "") + format_bytes(bytes); }

std::vector<std::string> row(const Change& change, std::string what) {
  return {signed_bytes(change.bytes()), format_bytes(change.a), format_bytes(change.b),
          std::move(what)};
}

// "new", "gone" or nothing.
const char* mark(const Change& change) {
  if (change.a == 0) return "new";
  return change.b == 0 ? "gone" : "";
}

json to_json(const Change& change) {
  return {{"a", change.a}, {"b", change.b}, {"change", change.bytes()}};
}

}  // namespace

Difference difference(const Summary& a, const Summary& b) {
  const MemoryFigures &in_a = a.peak.live.categories, &in_b = b.peak.live.categories;
  Difference result{.arguments_a = a.arguments,
                    .arguments_b = b.arguments,
                    .peak = {in_a.total, in_b.total},
                    .peak_reserved = {a.peak_reserved, b.peak_reserved},
                    .state = {a.state, b.state},
                    .categories = {},
                    .tensors = {}};
  for (const Category category : kCategories) {
    result.categories.push_back({category, {in_a[category], in_b[category]}});
  }
  std::map<std::pair<std::string, Category>, Change> tensors;
  for (const Block& block : a.peak.live.blocks) {
    tensors[{block.name, block.category}].a += block.bytes;
  }
  for (const Block& block : b.peak.live.blocks) {
    tensors[{block.name, block.category}].b += block.bytes;
  }
  for (const auto& [key, change] : tensors) {
    if (change.bytes() != 0) result.tensors.push_back({key.first, key.second, change});
  }
  largest_first(result.categories);
  largest_first(result.tensors);
  return result;
}

std::string difference_text(const Difference& difference) {
  Table totals(">>><", {"change", "A", "B", ""});
  totals.add(row(difference.peak, "peak"));
  totals.add(row(difference.peak_reserved, "most reserved"));
  totals.add(row(difference.state, "optimizer state"));
  Table categories(">>><", {"change", "A", "B", "category, at the peak"});
  for (const CategoryChange& entry : difference.categories) {
    categories.add(row(entry.change, std::string(to_string(entry.category))));
  }
  categories.add(row(difference.peak, "total"));
  Table tensors(">>><<<", {"change", "A", "B", "", "category", "tensor, at the peak"});
  for (const TensorChange& entry : difference.tensors) {
    std::vector<std::string> cells = row(entry.change, mark(entry.change));
    cells.emplace_back(to_string(entry.category));
    cells.push_back(entry.name.empty() ? "(none)" : entry.name);
    tensors.add(cells);
  }
  return fmt::format("A  {}\nB  {}\n\n{}\n{}\n{}", fmt::join(difference.arguments_a, " "),
                     fmt::join(difference.arguments_b, " "), totals.text(), categories.text(),
                     difference.tensors.empty() ? "no tensor differs\n" : tensors.text());
}

json difference_json(const Difference& difference) {
  json categories = json::array(), tensors = json::array();
  for (const CategoryChange& entry : difference.categories) {
    json change = to_json(entry.change);
    change["category"] = to_string(entry.category);
    categories.push_back(std::move(change));
  }
  for (const TensorChange& entry : difference.tensors) {
    json change = to_json(entry.change);
    change["name"] = entry.name;
    change["category"] = to_string(entry.category);
    change["mark"] = mark(entry.change);
    tensors.push_back(std::move(change));
  }
  return {{"format", "sketchgrad-memory-diff"},
          {"version", 1},
          {"arguments", {{"a", difference.arguments_a}, {"b", difference.arguments_b}}},
          {"peak", to_json(difference.peak)},
          {"peak_reserved", to_json(difference.peak_reserved)},
          {"optimizer_state", to_json(difference.state)},
          {"by_category", categories},
          {"by_tensor", tensors}};
}

}  // namespace sketchgrad::memory
