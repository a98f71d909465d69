// The built program bench, from outside. Its figures are not judged: machines differ.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::tools {
namespace {

using apps::CommandResult;
using apps::run_command;

const std::string kProgram = std::string(SKETCHGRAD_BINARY_DIR) + "/tools/bench";

CommandResult bench(const std::string& arguments) {
  return run_command(kProgram + " " + arguments);
}

// A build may leave the tools out.
bool is_built() { return std::filesystem::exists(kProgram); }

TEST_CASE("bench program: help names the groups") {
  if (!is_built()) return;
  const CommandResult result = bench("--help");
  CHECK(result.code == 0);
  for (const char* word : {"--threads", "--json", "kernels.gemm", "optimizer.sparse",
                           "optimizer.dense", "mach", "--mach-classes", "step"}) {
    CAPTURE(word);
    CHECK(result.output.find(word) != std::string::npos);
  }
}

TEST_CASE("bench program: wrong flags") {
  if (!is_built()) return;
  for (const char* arguments :
       {"--nonsense", "--rows 0", "--rows many", "--dim -1", "--threads -2", "--only nothing",
        "--cpu-time --threads 2", "--mach-buckets 1", "--mach-repetitions 257", "stray"}) {
    CAPTURE(arguments);
    const CommandResult result = bench(arguments);
    CHECK(result.code == 2);
    CHECK(result.output.rfind("bench: error: ", 0) == 0);
  }
}

TEST_CASE("bench program: a report with every line's floor") {
  if (!is_built()) return;
  const auto file = std::filesystem::temp_directory_path() / "sketchgrad_bench_test.json";
  const CommandResult result = bench(
      "--threads 1 --rows 2000 --dim 16 --active 100 --seconds 0.001 --only kernels.rows "
      "--json " +
      file.string());
  CAPTURE(result.output);
  REQUIRE(result.code == 0);
  const nlohmann::json report = nlohmann::json::parse(std::ifstream(file));
  std::filesystem::remove(file);
  CHECK(report.at("peaks").at("flops_per_second") > 0);
  int rows = 0;
  for (const nlohmann::json& line : report.at("lines")) {
    CHECK(line.at("median_seconds") >= line.at("best_seconds"));
    CHECK(line.at("floor_seconds") > 0);
    if (line.at("group") == "kernels.rows") ++rows;
  }
  CHECK(rows == 3);
}

TEST_CASE("bench program: figures that stdout does not take are an error") {
  if (!is_built()) return;
  const CommandResult full =
      run_command("(" + kProgram + " --threads 1 --seconds 0.001 --only machine >/dev/full)");
  CHECK(full.code == 1);
  CHECK(full.output.find("bench: error: ") != std::string::npos);
}

TEST_CASE("bench program: a file of figures is replaced by whole ones only") {
  if (!is_built()) return;
  const apps::TemporaryFolder folder;
  const std::string old = folder.file("old.json", "old\n");
  const CommandResult stopped =
      run_command("timeout -s KILL 1 " + kProgram + " --threads 1 --seconds 60 --json " + old);
  CHECK(stopped.code != 0);
  CHECK(apps::read_whole(old) == "old\n");
  const CommandResult nowhere = bench("--json /nowhere/figures.json");
  CHECK(nowhere.code == 1);
  CHECK(nowhere.output ==
        "bench: error: [bench] /nowhere/figures.json: cannot be written: No such file or "
        "directory\n");
}

TEST_CASE("bench program: MACH's searches, with their recall") {
  if (!is_built()) return;
  const auto file = std::filesystem::temp_directory_path() / "sketchgrad_bench_mach_test.json";
  const CommandResult result = bench(
      "--threads 1 --seconds 0.001 --only mach --mach-classes 20000 --mach-repetitions 3 "
      "--mach-buckets 50 --mach-queries 5 --json " +
      file.string());
  CAPTURE(result.output);
  REQUIRE(result.code == 0);
  const nlohmann::json report = nlohmann::json::parse(std::ifstream(file));
  std::filesystem::remove(file);
  CHECK(report.at("settings").at("mach_classes") == 20000);
  int timed = 0, recalls = 0;
  double best_recall = 0;
  for (const nlohmann::json& line : report.at("lines")) {
    if (line.at("group") != "mach") continue;
    if (line.contains("median_seconds")) {
      ++timed;
      CHECK(line.at("floor_seconds") > 0);
    }
    if (line.value("unit", "") != "of the exact ones") continue;
    ++recalls;
    best_recall = std::max(best_recall, line.at("value").get<double>());
    CHECK(line.at("value") > 0);
    CHECK(line.at("value") <= 1);
  }
  // No cut at 100 of 50 buckets.
  CHECK(timed == 3 + 6 + 1);
  CHECK(recalls == 6);
  CHECK(best_recall == 1.0);
}

}  // namespace
}  // namespace sketchgrad::tools
