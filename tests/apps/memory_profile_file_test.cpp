#include "sketchgrad/apps/common/memory_profile_file.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "sketchgrad/framework/memory_profile.h"
#include "sketchgrad/framework/upstream_memory.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

using nlohmann::json;

ProfiledRun some_run() {
  Allocator memory(make_host_memory());
  memory.allocate(100, Category::data, "ids");
  MemoryProfile profile(memory);
  memory.allocate(1000, Category::parameter, "weight");
  for (int64_t step = 1; step <= 4; ++step) {
    profile.begin("step", step);
    const MemoryScope scope("forward");
    memory.release(memory.allocate(step == 3 ? 600 : 400, Category::activation, "hidden"));
  }
  memory.set_limit(1500);
  try {
    memory.allocate(401, Category::gradient, "large");
  } catch (const OutOfMemory&) {
  }
  return {.arguments = {"lm", "train"},
          .steps = 4,
          .state = {{"weight.first", 500}},
          .dense_state_bytes = 1000,
          .device_memory = {{20, 30}},
          .record = profile.record()};
}

TEST_CASE("memory profile: written and read it is the same") {
  const TemporaryFolder folder;
  const ProfiledRun run = some_run();
  write_memory_profile(folder / "a/b", run);
  const ProfiledRun read = read_memory_profile(folder / "a/b");
  CHECK(to_json(read) == to_json(run));
  CHECK(read.arguments == run.arguments);
  REQUIRE(read.record.recorded.size() == 5);
  CHECK(read.record.recorded[read.record.peak].stretch.step == 3);
  CHECK(read.record.recorded[3].live.size() == 2);
  CHECK(read.record.recorded[3].events.size() == 2);
  CHECK(read.record.failure->bytes == 401);
  CHECK(read.device_memory->total == 30);
}

TEST_CASE("memory profile: a file that is none is refused with its name and the reason") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "broken");
  folder.file("broken/memory.json", "{\"format\": ");
  CHECK_THROWS_WITH_AS(read_memory_profile(folder / "broken"),
                       doctest::Contains("memory.json: is cut short or no JSON, at byte 12"),
                       DataError);
  folder.file("broken/memory.json", R"({"format": "sketchgrad-memory-profile", "version": "one"})");
  CHECK_THROWS_WITH_AS(read_memory_profile(folder / "broken"),
                       doctest::Contains("memory.json: this is no memory profile: type must be"),
                       DataError);
  CHECK_THROWS_WITH_AS(read_memory_profile(folder / "none"),
                       doctest::Contains("none/memory.json: cannot be read"), IoError);
  const json good = to_json(some_run());
  const auto refused = [&](const char* reason, const std::function<void(json&)>& spoil) {
    json bad = good;
    spoil(bad);
    folder.file("memory.json", bad.dump());
    CHECK_THROWS_WITH_AS(read_memory_profile(folder / ""), doctest::Contains(reason), DataError);
  };
  refused("no memory profile", [](json& file) { file = json::array(); });
  refused("no memory profile", [](json& file) { file["format"] = "x"; });
  refused("version 2", [](json& file) { file["version"] = 2; });
  refused("texts", [](json& file) { file.erase("texts"); });
  refused("\"peak\" is none", [](json& file) { file["peak"] = 5; });
  refused("99 is no number of \"texts\"",
          [](json& file) { file["recorded"][3]["live"][0][3] = 99; });
  refused("7 is no category", [](json& file) { file["recorded"][3]["events"][0][4] = 7; });
  refused("block 1 changes by 5 bytes", [](json& file) {
    file["recorded"][3]["events"][0][1] = 1;
    file["recorded"][3]["events"][0][2] = 5;
  });
  refused("cannot", [](json& file) { file["recorded"][3]["events"][1][2] = -1; });
  folder.file("memory.json", good.dump().substr(0, 1000));
  CHECK_THROWS_AS(read_memory_profile(folder / ""), DataError);
}

}  // namespace
}  // namespace sketchgrad::apps
