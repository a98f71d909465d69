// sketch_error: how far memories of optimizer state are from the exact state while a language model
// trains (figures 2 and 3 of Spring et al. 2019).
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <filesystem>
#include <ostream>
#include <system_error>
#include <vector>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/output_paths.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/framework/check.h"
#include "sketchgrad/tools/sketch_error/picture.h"
#include "sketchgrad/tools/sketch_error/study.h"

namespace {

using namespace sketchgrad;
using namespace sketchgrad::apps;
using nlohmann::json;

// The last line of each memory.
void print_table(const std::vector<json>& entries) {
  print_line(stdout, fmt::format("{:<18} {:<7} {:<36} {:>12} {:>9} {:>9} {:>9}", "table", "moment",
                                 "memory", "bytes", "all", "heavy", "rare"));
  const auto number = [](const json& error) {
    return error["relative"].is_null() ? std::string("-")
                                       : fmt::format("{:.4f}", error["relative"].get<double>());
  };
  const int64_t last = entries.back()["step"];
  for (const json& entry : entries) {
    if (entry["step"] != last) continue;
    print_line(stdout,
               fmt::format("{:<18} {:<7} {:<36} {:>12} {:>9} {:>9} {:>9}",
                           entry["table"].get<std::string>(), entry["moment"].get<std::string>(),
                           entry["memory"].get<std::string>(), entry["bytes"].get<int64_t>(),
                           number(entry["all"]), number(entry["heavy"]), number(entry["rare"])));
  }
}

int run(const sketch_error::StudySettings& settings) {
  const std::filesystem::path folder(settings.output);
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem) {
    throw IoError(
        fmt::format("[sketch_error] {}: cannot be made: {}", settings.output, problem.message()));
  }
  const std::string lines = (folder / "errors.jsonl").string();
  const std::string drawing = (folder / "errors.svg").string();
  check_outputs(named_paths("--output", {lines, drawing}), named_paths("--train", settings.train));
  for (const std::string& file : {lines, drawing}) check_replaceable("sketch_error", file);
  std::vector<json> entries;
  const auto write = [&] {
    if (entries.empty()) return;
    replace_file("sketch_error", lines, [&](std::ostream& out) {
      for (const json& entry : entries) out << entry.dump() << '\n';
    });
    replace_file("sketch_error", drawing,
                 [&](std::ostream& out) { out << sketch_error::picture(entries); });
    print_table(entries);
  };
  bool finished = false;
  try {
    finished = sketch_error::study(settings, [&](const json& entry) { entries.push_back(entry); });
  } catch (const NumericError&) {
    write();  // what was measured before is good
    throw;
  }
  write();
  return finished ? 0 : kExitStopped;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Trains a language model and tells how far memories of optimizer state, fed beside it, are "
      "from the exact state.",
      "sketch_error");
  sketch_error::StudySettings settings;
  sketch_error::add_options(app, settings);
  return run_program("sketch_error", app, [&] {
    parse(app, arguments_of(argc, argv));
    return run(settings);
  });
}
