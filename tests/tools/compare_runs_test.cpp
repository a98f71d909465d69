// The built program compare_runs, from outside. A ctest compares its table.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::tools {
namespace {

using apps::CommandResult;
using apps::run_command;

const std::string kProgram = std::string(SKETCHGRAD_BINARY_DIR) + "/tools/compare_runs";
const std::string kReport = std::string(SKETCHGRAD_SOURCE_DIR) + "/tests/tools/dense_report.json";

// A build may leave the tools out.
bool is_built() { return std::filesystem::exists(kProgram); }

TEST_CASE("compare_runs program: errors are one line with its name, and an exit code") {
  if (!is_built()) return;
  const CommandResult none = run_command(kProgram);
  CHECK(none.code == 2);
  CHECK(none.output == "compare_runs: error: reports is required\n");
  const CommandResult missing = run_command(kProgram + " /nowhere");
  CHECK(missing.code == 1);
  CHECK(missing.output == "compare_runs: error: /nowhere: cannot be read\n");
  const CommandResult help = run_command(kProgram + " --help");
  CHECK(help.code == 0);
  CHECK(help.output.find("Usage: compare_runs [OPTIONS] reports...") != std::string::npos);
}

TEST_CASE("compare_runs program: a table that stdout does not take is an error") {
  if (!is_built()) return;
  const CommandResult full = run_command("(" + kProgram + " " + kReport + " >/dev/full)");
  CHECK(full.code == 1);
  CHECK(full.output.find("compare_runs: error: ") != std::string::npos);
}

}  // namespace
}  // namespace sketchgrad::tools
