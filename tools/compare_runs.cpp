// Prints the reports of several runs as one table, each run also as a ratio to the first.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/kernels/error.h"

namespace {

using nlohmann::json;

struct Run {
  std::string name;
  json report;
};

struct Quantity {
  const char* label;
  json::json_pointer path;
  enum Unit { perplexity, rate, bytes } unit;
};

const std::vector<Quantity>& quantities() {
  static const std::vector<Quantity> all = [] {
    std::vector<Quantity> result = {
        {"valid perplexity", "/valid_perplexity"_json_pointer, Quantity::perplexity},
        {"test perplexity", "/test_perplexity"_json_pointer, Quantity::perplexity},
        {"tokens per second", "/tokens_per_second"_json_pointer, Quantity::rate},
    };
    for (const char* category : {"parameter", "gradient", "optimizer_state", "activation",
                                 "workspace", "data", "index", "total"}) {
      result.push_back({category, json::json_pointer("/peak_bytes") / category, Quantity::bytes});
    }
    return result;
  }();
  return all;
}

// `argument` is NAME=FILE, or FILE, which then is the name too.
Run read_run(const std::string& argument) {
  const size_t equals = argument.find('=');
  const std::string name = argument.substr(0, equals);
  const std::string file = equals == std::string::npos ? argument : argument.substr(equals + 1);
  std::ifstream stream(file);
  if (!stream) throw sketchgrad::DataError(file, 0, "cannot be read");
  json report = json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!report.is_object()) throw sketchgrad::DataError(file, 0, "is not the JSON report of a run");
  return {name, std::move(report)};
}

// A run that was not tested, or diverged, has no number there.
std::optional<double> value_of(const Run& run, const Quantity& quantity) {
  if (!run.report.contains(quantity.path)) return std::nullopt;
  const json& value = run.report.at(quantity.path);
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

std::string format_value(std::optional<double> value, Quantity::Unit unit) {
  if (!value) return "-";
  switch (unit) {
    case Quantity::perplexity:
      return fmt::format("{:.2f}", *value);
    case Quantity::rate:
      return fmt::format("{:.0f}", *value);
    case Quantity::bytes:
      return fmt::format("{:.1f} MiB", *value / (1 << 20));
  }
  return "-";
}

std::string format_ratio(std::optional<double> value, std::optional<double> base) {
  if (!value || !base || *base == 0) return "-";
  return fmt::format("{:.3f}", *value / *base);
}

std::vector<std::vector<std::string>> make_table(const std::vector<Run>& runs) {
  std::vector<std::vector<std::string>> table(1, {""});
  for (const Run& run : runs) table[0].push_back(run.name);
  for (size_t i = 1; i < runs.size(); ++i) {
    table[0].push_back(runs[i].name + " / " + runs[0].name);
  }
  for (const Quantity& quantity : quantities()) {
    const std::string peak = quantity.unit == Quantity::bytes ? "peak " : "";
    std::vector<std::string> line = {peak + quantity.label};
    for (const Run& run : runs)
      line.push_back(format_value(value_of(run, quantity), quantity.unit));
    for (size_t i = 1; i < runs.size(); ++i) {
      line.push_back(format_ratio(value_of(runs[i], quantity), value_of(runs[0], quantity)));
    }
    table.push_back(std::move(line));
  }
  return table;
}

void print_table(const std::vector<std::vector<std::string>>& table) {
  std::vector<size_t> widths(table[0].size(), 0);
  for (const auto& line : table) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  for (const auto& line : table) {
    fmt::print("{:<{}}", line[0], widths[0]);
    for (size_t i = 1; i < line.size(); ++i) fmt::print("  {:>{}}", line[i], widths[i]);
    fmt::print("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sketchgrad;
  CLI::App app("Prints the reports of several runs side by side, with ratios to the first.",
               "compare_runs");
  std::vector<std::string> reports;
  app.add_option("reports", reports, "[NAME=]FILE, files written by --report")->required();
  return apps::run_program("compare_runs", app, [&] {
    apps::parse(app, apps::arguments_of(argc, argv));
    std::vector<Run> runs;
    for (const std::string& report : reports) runs.push_back(read_run(report));
    print_table(make_table(runs));
    return 0;
  });
}
