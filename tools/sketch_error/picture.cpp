#include "sketchgrad/tools/sketch_error/picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

namespace sketchgrad::sketch_error {

namespace {

using nlohmann::json;

constexpr double kPanelWidth = 320, kPanelHeight = 240;
constexpr double kLeft = 56, kTop = 44, kGap = 64, kBottom = 40, kLegendLine = 18;
constexpr std::array<const char*, 3> kParts{"all", "heavy", "rare"};
// Of Okabe and Ito, which colour-blind people tell apart; then the same with dashes.
constexpr std::array<const char*, 8> kColours{"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                              "#E69F00", "#56B4E9", "#000000", "#999999"};

struct Line {
  std::string memory;
  int64_t bytes = 0;
  // Of each of kParts: step and relative error, where there is one above 0.
  std::array<std::vector<std::pair<double, double>>, kParts.size()> points;
};

struct Row {
  std::string title;
  std::vector<Line> lines;
  double steps = 1;
};

std::vector<Row> rows_of(const std::vector<json>& entries) {
  std::vector<Row> rows;
  std::map<std::string, size_t> places;
  for (const json& entry : entries) {
    const std::string title = fmt::format("{}, {} moment", entry["table"].get<std::string>(),
                                          entry["moment"].get<std::string>());
    const auto [place, is_new] = places.try_emplace(title, rows.size());
    if (is_new) rows.push_back({title, {}});
    Row& row = rows[place->second];
    const std::string memory = entry["memory"];
    auto line = std::find_if(row.lines.begin(), row.lines.end(),
                             [&](const Line& any) { return any.memory == memory; });
    if (line == row.lines.end()) {
      row.lines.push_back({memory, entry["bytes"], {}});
      line = row.lines.end() - 1;
    }
    const double step = entry["step"];
    row.steps = std::max(row.steps, step);
    for (size_t part = 0; part < kParts.size(); ++part) {
      const json& relative = entry[kParts[part]]["relative"];
      if (relative.is_null() || relative.get<double>() <= 0) continue;
      line->points[part].emplace_back(step, relative);
    }
  }
  return rows;
}

// Whole powers of ten around all errors of the row.
std::pair<int, int> decades_of(const Row& row) {
  double least = 1, largest = 1;
  for (const Line& line : row.lines) {
    for (const auto& points : line.points) {
      for (const auto& [step, error] : points) {
        least = std::min(least, error);
        largest = std::max(largest, error);
      }
    }
  }
  const int low = static_cast<int>(std::floor(std::log10(least)));
  return {low, std::max(low + 1, static_cast<int>(std::ceil(std::log10(largest))))};
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    result += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  }
  return result;
}

std::string text_at(double x, double y, const std::string& text, const char* anchor = "start",
                    const char* more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                     anchor, more, escaped(text));
}

std::string line_style(size_t line) {
  const char* dashes = line / kColours.size() % 2 == 1 ? " stroke-dasharray=\"6 3\"" : "";
  return fmt::format("stroke=\"{}\"{}", kColours[line % kColours.size()], dashes);
}

std::string panel(const Row& row, size_t part, double left, double top) {
  const auto [low, high] = decades_of(row);
  const auto x = [&](double step) { return left + kPanelWidth * step / row.steps; };
  const auto y = [&, low = low, high = high](double error) {
    return top + kPanelHeight * (high - std::log10(error)) / (high - low);
  };
  std::string svg = fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"none\" "
      "stroke=\"#888\"/>\n",
      left, top, kPanelWidth, kPanelHeight);
  svg += text_at(left + kPanelWidth / 2, top - 8, fmt::format("{} rows", kParts[part]), "middle");
  for (int decade = low; decade <= high; ++decade) {
    const double level = y(std::pow(10.0, decade));
    svg += fmt::format(
        "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", left,
        left + kPanelWidth, level, level);
    svg += text_at(left - 6, level + 4, fmt::format("1e{}", decade), "end");
  }
  for (const double share : {0.0, 0.5, 1.0}) {
    svg += text_at(x(share * row.steps), top + kPanelHeight + 16,
                   fmt::format("{:.0f}", share * row.steps), "middle");
  }
  for (size_t i = 0; i < row.lines.size(); ++i) {
    std::string points;
    for (const auto& [step, error] : row.lines[i].points[part]) {
      points += fmt::format("{:.1f},{:.1f} ", x(step), y(error));
    }
    svg += fmt::format("<polyline fill=\"none\" stroke-width=\"1.6\" {} points=\"{}\"/>\n",
                       line_style(i), points);
  }
  return svg;
}

double height_of(const Row& row) {
  return kTop + kPanelHeight + kBottom + kLegendLine * static_cast<double>(row.lines.size()) + 16;
}

}  // namespace

std::string picture(const std::vector<json>& entries) {
  const std::vector<Row> rows = rows_of(entries);
  const double width = kLeft + static_cast<double>(kParts.size()) * (kPanelWidth + kGap);
  double height = 0;
  for (const Row& row : rows) height += height_of(row);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      width, height);
  double top = 0;
  for (const Row& row : rows) {
    svg += text_at(kLeft, top + 18, row.title + ": relative l2 error over steps", "start",
                   " font-weight=\"bold\"");
    for (size_t part = 0; part < kParts.size(); ++part) {
      svg += panel(row, part, kLeft + static_cast<double>(part) * (kPanelWidth + kGap), top + kTop);
    }
    double y = top + kTop + kPanelHeight + kBottom;
    for (size_t i = 0; i < row.lines.size(); ++i, y += kLegendLine) {
      svg += fmt::format(
          "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke-width=\"2\" {}/>\n",
          kLeft, kLeft + 28, y - 4, y - 4, line_style(i));
      svg += text_at(kLeft + 36, y,
                     fmt::format("{} ({} bytes)", row.lines[i].memory, row.lines[i].bytes));
    }
    top += height_of(row);
  }
  return svg + "</svg>\n";
}

}  // namespace sketchgrad::sketch_error
