#include "sketchgrad/framework/memory_profile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "sketchgrad/framework/upstream_memory.h"
#include "sketchgrad/kernels/error.h"

using namespace sketchgrad;

namespace {

struct Fixture {
  Allocator memory{make_host_memory()};
  void* take(int64_t bytes, const char* name = "x", Category category = Category::workspace) {
    return memory.allocate(bytes, category, name);
  }
  void spend(int64_t bytes, const char* name = "temporary") { memory.release(take(bytes, name)); }
};

}  // namespace

TEST_CASE("memory profile: a run before any step is one stretch") {
  Fixture f;
  f.take(100, "data", Category::data);
  const MemoryProfile profile(f.memory);
  const MemoryScope scope("model");
  f.take(50, "weight", Category::parameter);
  f.spend(7);
  const MemoryRecord record = profile.record();
  REQUIRE(record.recorded.size() == 1);
  const RecordedStretch& setup = record.recorded[record.peak];
  CHECK(setup.stretch.label == "setup");
  CHECK(setup.stretch.at_peak.total == 157);
  CHECK(setup.stretch.at_peak[Category::data] == 100);
  CHECK(setup.stretch.at_peak[Category::parameter] == 50);
  REQUIRE(setup.live.size() == 1);
  CHECK(setup.live[0].bytes == 100);
  CHECK(record.text(setup.live[0].name) == "data");
  REQUIRE(setup.events.size() == 3);
  CHECK(record.events == 3);
  CHECK(setup.events[0].change == 50);
  CHECK(setup.events[0].block == 1);
  CHECK(record.text(setup.events[0].scope) == "model");
  CHECK(setup.events[2].change == -7);
  CHECK(setup.events[2].block == setup.events[1].block);
  CHECK(setup.events[2].time >= setup.events[0].time);
  CHECK_FALSE(record.failure);
}

TEST_CASE("memory profile: setup, first steps and the step with the peak are kept in full") {
  Fixture f;
  MemoryProfile profile(f.memory, {.first_steps = 2, .events = 100, .stretches = 64});
  f.take(1000, "weight", Category::parameter);
  for (int64_t step = 1; step <= 20; ++step) {
    profile.begin("step", step);
    f.spend(step == 7 ? 500 : 10 + step);
  }
  profile.begin("score", 20);
  const MemoryRecord record = profile.record();
  REQUIRE(record.recorded.size() == 5);
  const auto step = [&](size_t i) { return record.recorded[i].stretch.step; };
  CHECK(step(0) == 0);
  CHECK(step(1) == 1);
  CHECK(step(2) == 2);
  CHECK(step(3) == 7);
  CHECK(record.recorded[4].stretch.label == "score");
  CHECK(record.peak == 3);
  CHECK(record.recorded[3].stretch.at_peak.total == 1500);
  REQUIRE(record.recorded[3].live.size() == 1);
  CHECK(record.recorded[3].live[0].bytes == 1000);
  CHECK(record.recorded[3].events.size() == 2);
  REQUIRE(record.stretches.size() == 22);
  CHECK(record.stretches[20].step == 20);
  CHECK(record.stretches[20].at_peak.total == 1030);
}

TEST_CASE("memory profile: a long run is kept in bounded space, its peak among it") {
  Fixture f;
  MemoryProfile profile(f.memory, {.first_steps = 1, .events = 8, .stretches = 16});
  for (int64_t step = 1; step <= 1000; ++step) {
    profile.begin("step", step);
    for (int64_t i = 0; i < step % 30; ++i) f.spend(i == 17 && step == 777 ? 9999 : 5);
  }
  const MemoryRecord record = profile.record();
  CHECK(record.recorded.size() <= 6);
  for (const RecordedStretch& stretch : record.recorded) CHECK(stretch.events.size() <= 8);
  CHECK(record.stretches.size() <= 17);
  CHECK(record.recorded[record.peak].stretch.step == 777);
  int64_t most = 0, last = -1;
  for (const MemoryStretch& stretch : record.stretches) {
    most = std::max(most, stretch.at_peak.total);
    CHECK(stretch.step >= last);
    last = stretch.step;
  }
  CHECK(most == 9999);
}

TEST_CASE("memory profile: the stretch in which memory ran out is there to its end") {
  Fixture f;
  MemoryProfile profile(f.memory);
  for (int64_t step = 1; step <= 9; ++step) {
    profile.begin("step", step);
    f.spend(100);
  }
  f.memory.set_limit(500);
  {
    const MemoryScope scope("forward");
    CHECK_THROWS_AS(f.take(501, "logits"), OutOfMemory);
  }
  const MemoryRecord record = profile.record();
  REQUIRE(record.failure);
  CHECK(record.failure->bytes == 501);
  CHECK(record.text(record.failure->name) == "logits");
  CHECK(record.text(record.failure->scope) == "forward");
  CHECK(record.recorded.back().stretch.step == 9);
  CHECK(record.failure->time >= record.recorded.back().events.back().time);
}

TEST_CASE("memory profile: what it refuses") {
  Fixture f;
  CHECK_THROWS_AS(MemoryProfile(f.memory, {.events = 0}), InvalidArgument);
  CHECK_THROWS_AS(MemoryProfile(f.memory, {.stretches = 1}), InvalidArgument);
}
