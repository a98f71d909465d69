#include <CLI/CLI.hpp>
#include <doctest/doctest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/config_file.h"
#include "sketchgrad/apps/common/memory_advice.h"
#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/framework/memory_trace.h"
#include "sketchgrad/tests/apps/lm_testing.h"

namespace sketchgrad::apps::lm {
namespace {

struct Case {
  const char* name;
  std::function<void(TrainSettings&)> change;
};

const std::vector<Case> kCases = {
    {"dense", [](TrainSettings&) {}},
    {"tied", [](TrainSettings& s) { s.model.tie = true, s.model.hidden = 72; }},
    {"projection", [](TrainSettings& s) { s.model.projection = 9; }},
    {"sketches", use_sketches},
    {"deep sketches",
     [](TrainSettings& s) {
       s.optimizer.moment1 = "sketch:0.3,depth=3";
       s.optimizer.moment2 = "sketch:0.3,depth=2,reading=requery";
     }},
    {"skipped steps decay",
     [](TrainSettings& s) {
       s.optimizer.moment1 = "sketch:0.3";
       s.optimizer.decay_skipped = true;
     }},
    {"factors",
     [](TrainSettings& s) {
       s.optimizer.moment1 = "none";
       s.optimizer.moment2 = "rank1";
     }},
    {"few bits",
     [](TrainSettings& s) {
       s.optimizer.moment1 = "bf16";
       s.optimizer.moment2 = "int8";
     }},
    {"a budget", [](TrainSettings& s) { s.optimizer.memory = "200KB"; }},
    {"sm3", [](TrainSettings& s) { s.optimizer.optimizer = "sm3"; }},
    {"sampled softmax",
     [](TrainSettings& s) {
       s.model.softmax.softmax = "sampled";
       s.model.softmax.samples = 80;
     }},
    {"sampled by counts",
     [](TrainSettings& s) {
       s.model.softmax.softmax = "sampled";
       s.model.softmax.sampler = "unigram";
       s.model.softmax.samples = 80;
     }},
    {"adaptive softmax",
     [](TrainSettings& s) {
       s.model.softmax.softmax = "adaptive";
       s.model.softmax.cutoffs = {20, 90};
     }},
};

}  // namespace

TEST_CASE("lm plan: the run's own bytes, of each category, whatever the model and the memories") {
  for (const Case& one : kCases) {
    CAPTURE(std::string(one.name));
    SmallRun fixture;
    one.change(fixture.settings);
    complete(fixture.settings);
    const auto planner = make_planner(fixture.settings);
    const PlannedRun plan = planner->plan(fixture.settings.batch);
    const TrainOutcome outcome = train(fixture.settings);
    CHECK(apps::to_json(plan.peak) == outcome.report["peak_bytes"]);
    CHECK(apps::to_json(plan.at_peak) == outcome.report["at_peak_bytes"]);
    CHECK(plan.peak_reserved == outcome.report["peak_reserved_bytes"].get<int64_t>());
    CHECK(plan.profile.planned);
    CHECK(plan.profile.steps == 14);
  }
}

TEST_CASE("lm plan: of every bundled configuration, in small") {
  const SmallRun fixture;
  int configs = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(SKETCHGRAD_SOURCE_DIR "/apps/lm/configs")) {
    CAPTURE(entry.path().string());
    ++configs;
    CLI::App app;
    TrainSettings settings;
    add_options(app, settings);
    add_config_option(app, "lm");
    std::vector<std::string> arguments = {"--config",        entry.path().string(),
                                          "--train",         fixture.settings.train[0],
                                          "--valid",         fixture.settings.valid,
                                          "--cache",         fixture.settings.cache,
                                          "--vocab-min",     "1",
                                          "--embedding-dim", "36",
                                          "--hidden",        "40",
                                          "--projection",    "20",
                                          "--batch",         "9",
                                          "--eval-batch",    "3",
                                          "--bptt",          "8",
                                          "--steps",         "7"};
    if (read_whole(entry.path().string()).find("softmax = \"sampled\"") != std::string::npos) {
      arguments.insert(arguments.end(), {"--samples", "90"});
    }
    parse(app, expand_config(arguments, app, "lm"));
    complete(settings);
    const PlannedRun plan = make_planner(settings)->plan(settings.batch);
    const TrainOutcome outcome = train(settings);
    CHECK(apps::to_json(plan.peak) == outcome.report["peak_bytes"]);
    CHECK(apps::to_json(plan.at_peak) == outcome.report["at_peak_bytes"]);
    CHECK(plan.peak_reserved == outcome.report["peak_reserved_bytes"].get<int64_t>());
  }
  CHECK(configs >= 8);
}

TEST_CASE("lm plan: checkpoints take nothing at the peak") {
  SmallRun fixture;
  complete(fixture.settings);
  const PlannedRun plan = make_planner(fixture.settings)->plan(fixture.settings.batch);
  fixture.settings.run.checkpoint = fixture.folder / "checkpoint";
  fixture.settings.run.checkpoint_every = 3;
  CHECK(apps::to_json(plan.at_peak) == train(fixture.settings).report["at_peak_bytes"]);
}

TEST_CASE("lm plan: with telemetry") {
  SmallRun fixture;
  fixture.settings.optimizer.moment1 = "sketch:0.3";
  fixture.settings.run.telemetry_rows = 20;
  complete(fixture.settings);
  const PlannedRun plan = make_planner(fixture.settings)->plan(fixture.settings.batch);
  CHECK(apps::to_json(plan.at_peak) == train(fixture.settings).report["at_peak_bytes"]);
}

TEST_CASE("lm plan: hybrid memories claim rows by numbers that a trace lacks, and still fit") {
  SmallRun fixture;
  fixture.settings.optimizer.moment1 = fixture.settings.optimizer.moment2 = "hybrid:0.3";
  complete(fixture.settings);
  const PlannedRun plan = make_planner(fixture.settings)->plan(fixture.settings.batch);
  const auto report = train(fixture.settings).report;
  const auto real = report["at_peak_bytes"]["total"].get<double>();
  CHECK(static_cast<double>(plan.at_peak.total) == doctest::Approx(real).epsilon(0.02));
}

TEST_CASE("lm plan: of an lsh softmax, what the most classes take that it may find") {
  SmallRun fixture;
  fixture.settings.model.softmax.softmax = "lsh";
  fixture.settings.model.softmax.samples = 80;
  fixture.settings.model.softmax.lsh_bits = 5;
  fixture.settings.model.softmax.lsh_tail = 30;
  complete(fixture.settings);
  const PlannedRun plan = make_planner(fixture.settings)->plan(fixture.settings.batch);
  const auto report = train(fixture.settings).report;
  const auto real = report["at_peak_bytes"]["total"].get<double>();
  CHECK(static_cast<double>(plan.at_peak.total) >= real);
  CHECK(static_cast<double>(plan.at_peak.total) <= 1.02 * real);
}

TEST_CASE("lm plan: a trace before it changes nothing of a run") {
  SmallRun fixture;
  use_sketches(fixture.settings);
  complete(fixture.settings);
  const auto figures = [&] {
    const auto report = train(fixture.settings).report;
    return std::pair(report["test_loss"], report["peak_reserved_bytes"]);
  };
  const auto before = figures();
  TrainSettings large = fixture.settings;
  large.model.embedding_dim = 1 << 20;
  make_planner(large)->plan(40);
  CHECK(figures() == before);
}

TEST_CASE("lm plan: a model larger than the machine") {
  SmallRun fixture;
  fixture.settings.model.embedding_dim = 1 << 22;
  fixture.settings.model.hidden = 1 << 8;
  complete(fixture.settings);
  const PlannedRun plan = make_planner(fixture.settings)->plan(fixture.settings.batch);
  CHECK(plan.at_peak.total > int64_t{100} << 30);
  CHECK_FALSE(MemoryTrace::active());
}

TEST_CASE("lm plan: the largest batch within a budget, and none") {
  SmallRun fixture;
  complete(fixture.settings);
  const auto planner = make_planner(fixture.settings);
  const int64_t at16 = planner->plan(16).at_peak.total, at17 = planner->plan(17).at_peak.total;
  REQUIRE(at17 > at16);
  CHECK(planner->largest_batch(at16) == 16);
  CHECK(planner->largest_batch(at17 - 1) == 16);
  CHECK(planner->largest_batch(at17) == 17);
  CHECK(planner->largest_batch(1000) == 0);
  CHECK(planner->plan(16).moment.starts_with("step "));
}

TEST_CASE("lm train: out of memory, with settings that fit") {
  SmallRun fixture;
  complete(fixture.settings);
  const auto planner = make_planner(fixture.settings);
  const int64_t peak = planner->plan(16).at_peak.total;
  TrainSettings smaller = fixture.settings;
  smaller.optimizer.moment1 = "sketch:0.2";
  smaller.optimizer.moment2 = "rank1";
  const int64_t smaller_peak = make_planner(smaller)->plan(16).at_peak.total;
  fixture.settings.run.memory_limit = std::to_string(smaller_peak);
  fixture.settings.run.memory_profile = fixture.folder / "profile";
  std::string message;
  try {
    train(fixture.settings);
  } catch (const OutOfMemory& error) {
    message = error.what();
  }
  CAPTURE(message);
  CHECK(message.find("the run would take " + format_bytes(peak)) != std::string::npos);
  CHECK(message.find("it fits with any of these") != std::string::npos);
  CHECK(message.find("  --moment1 sketch:0.2 --moment2 rank1 ") != std::string::npos);
  CHECK(read_memory_profile(fixture.folder / "profile").record.failure);
  // What was said holds, to the byte.
  smaller.run.memory_limit = fixture.settings.run.memory_limit;
  CHECK(train(smaller).finished);
  smaller.run.memory_limit = std::to_string(smaller_peak - 1);
  CHECK_THROWS_AS(train(smaller), OutOfMemory);
  fixture.settings.run.memory_limit = std::to_string(int64_t{100});
  CHECK_THROWS_WITH_AS(train(fixture.settings), doctest::Contains("none of these is enough"),
                       OutOfMemory);
  CHECK(allocator().limit() == 0);
}

TEST_CASE("memory advice: only what the rule has, and only what takes less") {
  const auto flags_of = [](const std::string& rule, const std::string& budget = "") {
    OptimizerOptions options;
    options.optimizer = rule;
    options.memory = budget;
    complete(options);
    std::vector<std::string> result;
    for (const auto& [flags, changed] : smaller_memories(options)) result.push_back(flags);
    return result;
  };
  using Texts = std::vector<std::string>;
  CHECK(flags_of("adam") == Texts{"--moment2 rank1", "--moment1 sketch:0.2",
                                  "--moment1 sketch:0.2 --moment2 rank1",
                                  "--moment1 none --moment2 rank1 --beta1 0"});
  CHECK(flags_of("adagrad") == Texts{"--moment2 rank1"});
  CHECK(flags_of("momentum") == Texts{"--moment1 sketch:0.2"});
  CHECK(flags_of("sgd").empty());
  CHECK(flags_of("adam", "1MB").empty());
  const auto run_of = [](int64_t bytes) {
    PlannedRun run;
    run.at_peak.total = bytes;
    run.moment = "step 1";
    return run;
  };
  const auto proposal = [&](const std::string& flags, int64_t bytes) -> Alternative {
    return [=] { return Proposal{flags, run_of(bytes)}; };
  };
  CHECK(compare_alternatives(run_of(100), 50, {proposal("--a", 100)}) ==
        "the run would take 100 B at its peak (step 1); no setting that is known takes less");
  const Alternative impossible = []() -> Proposal { throw InvalidArgument("no"); };
  const std::string advice = compare_alternatives(
      run_of(100), 50, {impossible, proposal("--a", 60), proposal("--b", 50), proposal("--c", 10)},
      proposal("--d", 5));
  CHECK(advice.find("fits with any of these") != std::string::npos);
  CHECK(advice.find("--a") == std::string::npos);
  CHECK(advice.find("--b") < advice.find("--c"));
  CHECK(advice.find("--d") == std::string::npos);
  const std::string last =
      compare_alternatives(run_of(100), 9, {proposal("--a", 60)}, proposal("--d", 5));
  CHECK(last.find("fits with any of these:\n  --d") != std::string::npos);
  const std::string none =
      compare_alternatives(run_of(100), 1, {proposal("--a", 60)}, proposal("--d", 5));
  CHECK(none.find("none of these is enough:\n  --d") != std::string::npos);
}

}  // namespace sketchgrad::apps::lm
