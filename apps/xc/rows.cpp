#include "sketchgrad/apps/xc/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "sketchgrad/apps/xc/murmur3.h"

namespace sketchgrad::apps::xc {

namespace {

constexpr uint32_t kFeatureSeed = 3;
constexpr size_t kHeaderBlockBytes = size_t{1} << 16;

// A piece of a line as a message shows it: not all of a long one, and nothing that a terminal
// obeys.
std::string shown(std::string_view text) {
  constexpr size_t kMost = 40;
  std::string result(text.substr(0, kMost));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7F) c = '?';
  }
  return text.size() > kMost ? result + "..." : result;
}

template <class Number>
bool parse_number(std::string_view text, Number& value) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem == std::errc() && end == text.data() + text.size();
}

// Calls f(piece) for each piece between separators until it returns a problem, which is returned.
template <class Function>
std::string for_each_piece(std::string_view text, char separator, Function f) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (std::string problem = f(text.substr(begin, end - begin)); !problem.empty()) return problem;
    begin = end + 1;
  }
  return {};
}

// Keeps the first of equal names, in their order.
void drop_repeated(std::vector<std::string_view>& names) {
  if (names.size() < 2) return;
  std::vector<std::pair<std::string_view, size_t>> sorted;
  for (const std::string_view name : names) sorted.emplace_back(name, sorted.size());
  std::sort(sorted.begin(), sorted.end());
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  sorted.erase(std::unique(sorted.begin(), sorted.end(), same), sorted.end());
  if (sorted.size() == names.size()) return;
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second < b.second; });
  names.clear();
  for (const auto& [name, place] : sorted) names.push_back(name);
}

std::string parse_id(std::string_view text, const char* what, int64_t bound, int32_t& id) {
  int64_t value = 0;
  if (!parse_number(text, value)) {
    return fmt::format("'{}' is no {}, a number", shown(text), what);
  }
  if (value < 0 || value >= bound) {
    return fmt::format("{} {} is outside of the {} that the file has", what, value, bound);
  }
  id = static_cast<int32_t>(value);
  return {};
}

std::string parse_labels(std::string_view text, int64_t classes, std::vector<int32_t>& ids) {
  if (text.empty()) return {};
  std::string problem = for_each_piece(text, ',', [&](std::string_view label) {
    return parse_id(label, "label", classes, ids.emplace_back());
  });
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return problem;
}

using Entry = std::pair<int32_t, float>;  // feature and value

std::string parse_entry(std::string_view text, int64_t features, Entry& entry) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return fmt::format("'{}' is no feature:value", shown(text));
  }
  std::string problem = parse_id(text.substr(0, colon), "feature", features, entry.first);
  if (!problem.empty()) return problem;
  double value = 0;
  if (!parse_number(text.substr(colon + 1), value) || !std::isfinite(static_cast<float>(value))) {
    return fmt::format("'{}': the value is no finite number", shown(text));
  }
  entry.second = static_cast<float>(value);
  return {};
}

// Sums the values of equal features in their order, in double precision.
void store(std::vector<Entry>& entries, Row& row) {
  const auto by_feature = [](const Entry& a, const Entry& b) { return a.first < b.first; };
  if (!std::is_sorted(entries.begin(), entries.end(), by_feature)) {
    std::stable_sort(entries.begin(), entries.end(), by_feature);
  }
  thread_local std::vector<double> sums;
  sums.clear();
  for (const auto& [feature, value] : entries) {
    if (row.features.empty() || row.features.back() != feature) {
      row.features.push_back(feature);
      sums.push_back(0);
    }
    sums.back() += static_cast<double>(value);
  }
  constexpr double kLargest = std::numeric_limits<float>::max();
  for (const double sum : sums) {
    row.values.push_back(static_cast<float>(std::clamp(sum, -kLargest, kLargest)));
  }
}

}  // namespace

void Row::clear() {
  names.clear();
  ids.clear();
  features.clear();
  values.clear();
}

std::string parse_tsv(std::string_view line, std::string_view& text, Row& row) {
  row.clear();
  const size_t tab = line.find('\t');
  if (tab == std::string_view::npos) {
    return fmt::format("'{}' has no TAB; a line is text TAB label", shown(line));
  }
  text = line.substr(0, tab);
  for_each_piece(line.substr(tab + 1), '\t', [&](std::string_view label) {
    if (!label.empty()) row.names.push_back(label);
    return std::string();
  });
  drop_repeated(row.names);
  return {};
}

std::string parse_xc(std::string_view line, const InputSettings& settings, Row& row) {
  row.clear();
  if (line.empty()) return "is empty; a line without labels begins with a space";
  const size_t space = std::min(line.find(' '), line.size());
  if (line.substr(0, space).find(':') != std::string_view::npos) {
    return "begins with a feature; a line without labels begins with a space";
  }
  std::string problem = parse_labels(line.substr(0, space), settings.file_classes, row.ids);
  if (!problem.empty()) return problem;
  const bool hashed = settings.feature_dim < settings.file_features;
  thread_local std::vector<Entry> entries;
  entries.clear();
  problem = for_each_piece(line.substr(space), ' ', [&](std::string_view piece) {
    if (piece.empty()) return std::string();
    Entry& entry = entries.emplace_back();
    std::string wrong = parse_entry(piece, settings.file_features, entry);
    if (hashed) {
      const std::string_view bytes(reinterpret_cast<const char*>(&entry.first), sizeof(int32_t));
      entry.first = bucket_of(murmur3(bytes, kFeatureSeed), settings.feature_dim);
    }
    return wrong;
  });
  if (problem.empty()) store(entries, row);
  return problem;
}

bool parse_xc_header(std::string_view line, XcHeader& header) {
  std::vector<int64_t> numbers;
  const std::string problem = for_each_piece(line, ' ', [&](std::string_view piece) {
    const bool right = piece.empty() || parse_number(piece, numbers.emplace_back());
    return right ? std::string() : std::string("no number");
  });
  if (!problem.empty() || numbers.size() != 3) return false;
  header = {numbers[0], numbers[1], numbers[2]};
  return true;
}

XcHeader read_xc_header(const std::vector<std::string>& paths) {
  XcHeader all;
  for (const std::string& path : paths) {
    TextReader reader(path, kHeaderBlockBytes, TextCut::lines);
    std::string block;
    reader.next(block);
    std::string_view line = std::string_view(block).substr(0, block.find('\n'));
    if (line.ends_with('\r')) line.remove_suffix(1);
    XcHeader header;
    if (!parse_xc_header(line, header)) {
      if (&path != &paths.front()) continue;
      throw DataError(path, 1, "an XC file begins with a line of rows, features and classes");
    }
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    if (header.rows < 0 || std::min(header.features, header.classes) < 1 ||
        std::max(header.features, header.classes) > kMost) {
      throw DataError(path, 1,
                      fmt::format("{} rows, {} features and {} classes cannot be", header.rows,
                                  header.features, header.classes));
    }
    if (&path == &paths.front()) {
      all = header;
    } else if (header.features != all.features || header.classes != all.classes) {
      throw DataError(
          path, 1,
          fmt::format("{} features and {} classes, where {} has {} and {}", header.features,
                      header.classes, paths.front(), all.features, all.classes));
    } else {
      all.rows += header.rows;
    }
  }
  return all;
}

}  // namespace sketchgrad::apps::xc
