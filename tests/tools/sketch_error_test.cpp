// The built program sketch_error, from outside.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <utility>

#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::tools {
namespace {

using namespace sketchgrad::apps;

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kProgram = std::string(SKETCHGRAD_BINARY_DIR) + "/tools/sketch_error";

CommandResult call(const std::string& arguments) { return run_command(kProgram + " " + arguments); }

bool is_built() { return fs::exists(kProgram); }

// With a text of 300 words, the first ones most often.
struct Folder {
  TemporaryFolder folder;
  const std::string text = folder.file("train.txt", generated_text(400, 300));
  std::string small(const std::string& more) const {
    return "--train " + text + " --cache none --steps 30 --every 10 --embedding-dim 9 --hidden 8 " +
           "--batch 4 --bptt 5 --heavy 20 --output " + folder / "out" + " " + more;
  }
  std::string read(const std::string& name) const { return read_whole(folder / "out/" + name); }
};

TEST_CASE("sketch_error program: help and wrong flags") {
  if (!is_built()) return;
  const CommandResult help = call("--help");
  CHECK(help.code == 0);
  for (const char* word : {"--memory1", "--memory2", "--tables", "--heavy", "errors.svg"}) {
    CAPTURE(word);
    CHECK(help.output.find(word) != std::string::npos);
  }
  const Folder folder;
  for (const char* more :
       {"", "--memory2 sketch:7", "--memory1 sm3", "--memory2 rank1 --optimizer momentum",
        "--memory2 rank1 --steps 0", "--memory2 rank1 --tables all", "--nonsense"}) {
    CAPTURE(more);
    const CommandResult result = call(folder.small(more));
    CHECK(result.code == 2);
    CHECK(result.output.rfind("sketch_error: error: ", 0) == 0);
  }
  const CommandResult missing =
      call("--train /nowhere --memory2 rank1 --output " + folder.folder / "out");
  CHECK(missing.code == 1);
  CHECK(missing.output.find("/nowhere") != std::string::npos);
}

TEST_CASE("sketch_error program: a line for each memory, and a picture") {
  if (!is_built()) return;
  const Folder folder;
  const CommandResult result = call(folder.small(
      "--tables both --memory1 dense rank1 --memory2 rowwise sketch:0.3,reading=mean_delta"));
  CHECK(result.code == 0);
  CHECK(result.output.find("sketch:0.3,reading=mean_delta") != std::string::npos);
  std::map<std::string, int> lines;
  std::istringstream content(folder.read("errors.jsonl"));
  double loss = 0;
  for (std::string line; std::getline(content, line);) {
    const json entry = json::parse(line);
    ++lines[entry["table"].get<std::string>() + " " + entry["memory"].get<std::string>()];
    const double error = entry["all"]["relative"];
    CHECK((error == 0.0) == (entry["memory"] == "dense"));
    CHECK(entry.contains("mean_load") == (entry["memory"] == "sketch:0.3,reading=mean_delta"));
    if (entry["step"] == 10 && loss == 0) loss = entry["loss"];
    CHECK(entry["loss"].get<double>() < 6.0);
  }
  CHECK(loss > 0);
  CHECK(lines.size() == 8);
  for (const auto& [name, count] : lines) CHECK(count == 3);
  const std::string svg = folder.read("errors.svg");
  CHECK(svg.rfind("<svg ", 0) == 0);
  CHECK(svg.find("output.weight, second moment") != std::string::npos);
  // Lines of four rows of panels; exact state has none to draw.
  size_t polylines = 0;
  for (size_t at = svg.find("<polyline"); at != std::string::npos;
       at = svg.find("<polyline", at + 1)) {
    ++polylines;
  }
  CHECK(polylines == 4 * 2 * 3);
}

TEST_CASE("sketch_error program: the run's own memories are not offered") {
  if (!is_built()) return;
  const std::string help = call("--help").output;
  const Folder folder;
  for (const char* flag : {"--moment1", "--moment2", "--decay-skipped", "--optimizer-memory"}) {
    CAPTURE(flag);
    CHECK(help.find(std::string("\n  ") + flag) == std::string::npos);
    const CommandResult result = call(folder.small("--memory2 rank1 " + std::string(flag) + " x"));
    CHECK(result.code == 2);
    CHECK(result.output.find(flag) != std::string::npos);
  }
}

TEST_CASE("sketch_error program: no error of no rows") {
  if (!is_built()) return;
  const Folder folder;
  for (const auto& [heavy, part] : {std::pair("0", "heavy"), std::pair("100000", "rare")}) {
    CAPTURE(part);
    const CommandResult result =
        call(folder.small("--memory2 rowwise --heavy " + std::string(heavy)));
    CHECK(result.code == 0);
    CHECK(result.output.find(" -") != std::string::npos);
    const std::string lines = folder.read("errors.jsonl");
    const json entry = json::parse(lines.substr(0, lines.find('\n')));
    CHECK(entry[part]["absolute"].is_null());
    CHECK(entry[part]["relative"].is_null());
    CHECK(entry["all"]["relative"] > 0);
  }
}

TEST_CASE("sketch_error program: what was measured before a loss that is not finite is kept") {
  if (!is_built()) return;
  const Folder folder;
  const CommandResult result = call(folder.small(
      "--memory2 rowwise --optimizer adagrad --learning-rate 3e38 --clip 0 --every 1"));
  CAPTURE(result.output);
  CHECK(result.code == 1);
  CHECK(result.output.find("sketch_error: error: ") != std::string::npos);
  CHECK(json::parse(folder.read("errors.jsonl")
                        .substr(0, folder.read("errors.jsonl").find('\n')))["step"] == 1);
  CHECK(folder.read("errors.svg").rfind("<svg ", 0) == 0);
}

TEST_CASE("sketch_error program: the same in every run") {
  if (!is_built()) return;
  const Folder folder;
  const std::string arguments = folder.small("--memory2 sketch:0.3 int8 bf16 --optimizer adagrad");
  CHECK(call(arguments + " --threads 1").code == 0);
  const std::string first = folder.read("errors.jsonl");
  CHECK(call(arguments + " --threads 2").code == 0);
  CHECK(folder.read("errors.jsonl") == first);
}

}  // namespace
}  // namespace sketchgrad::tools
