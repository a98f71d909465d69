#include <doctest/doctest.h>

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/checkpoint_folder.h"
#include "sketchgrad/apps/common/corpus.h"
#include "sketchgrad/apps/lm/evaluate.h"
#include "sketchgrad/apps/lm/generate.h"
#include "sketchgrad/apps/lm/task.h"
#include "sketchgrad/tests/apps/lm_testing.h"

namespace sketchgrad::apps::lm {
namespace {

struct Fixture : SmallRun {
  // The last checkpoint of a run with these settings.
  StateDict trained(TrainSettings changed, const std::string& name) {
    changed.run.checkpoint = folder / name;
    complete(changed);
    CHECK(train(changed).finished);
    return load_safetensors(CheckpointFolder(changed.run.checkpoint).latest());
  }
};

TEST_CASE("lm train: the same bits with one and two threads") {
  Fixture fixture;
  for (const std::string name : {"dense", "sketch", "sampled", "lsh", "adaptive"}) {
    CAPTURE(name);
    TrainSettings settings = fixture.settings;
    if (name != "dense") use_sketches(settings);
    if (name != "dense" && name != "sketch") {
      settings.model.softmax.softmax = name;
      settings.model.softmax.samples = 80;
      settings.model.softmax.cutoffs = {20, 90};
      settings.model.softmax.lsh_bits = 5;
      settings.model.softmax.lsh_tail = 30;
      settings.model.softmax.lsh_incremental = true;
    }
    const StateDict one = fixture.trained(settings, name + "1");
    settings.run.compute.threads = 2;
    const StateDict two = fixture.trained(settings, name + "2");
    CHECK(same_bits(one, two));
    settings.run.seed = 2;
    CHECK_FALSE(same_bits(one, fixture.trained(settings, name + "seed")));
  }
}

TEST_CASE("lm train: out of memory on any device, settings are told that would take less") {
  Fixture fixture;
  fixture.settings.run.memory_limit = "10KB";
  complete(fixture.settings);
  CHECK_THROWS_WITH_AS(train(fixture.settings), doctest::Contains("--moment1 none --moment2 rank1"),
                       OutOfMemory);
  CHECK_THROWS_WITH_AS(train(fixture.settings), doctest::Contains("the limit is 9.77 KiB"),
                       OutOfMemory);
  CHECK(allocator(test::kTestDevice).current()[Category::parameter] == 0);
  CHECK(allocator(test::kTestDevice).limit() == 0);
  fixture.settings.run.memory_limit = "";
  CHECK(train(fixture.settings).finished);
}

TEST_CASE("lm train: a resumed run goes on bit for bit") {
  Fixture fixture;
  for (const std::string name :
       {"dense", "sketch", "tied and projected", "sampled", "adaptive", "lsh"}) {
    CAPTURE(name);
    TrainSettings settings = fixture.settings;
    if (name == "sampled") {
      settings.model.softmax.softmax = name;
      settings.model.softmax.samples = 50;
      settings.model.softmax.sampler = "unigram";
    }
    if (name == "adaptive") settings.model.softmax.softmax = name;  // its cutoffs are measured
    if (name == "lsh") {
      settings.model.softmax.softmax = name;
      settings.model.softmax.samples = 50;
      settings.model.softmax.lsh_bits = 5;
      settings.model.softmax.lsh_tail = 30;
      settings.model.softmax.lsh_rebuild = 4;
      settings.model.softmax.lsh_incremental = true;
    }
    settings.run.schedule = "plateau:0.5,1";
    settings.run.eval_every = 5;
    // Where cutoffs fall is measured: a cluster may be too small for a sketch.
    if (name != "dense" && name != "adaptive") use_sketches(settings);
    if (name == "tied and projected") {
      settings.model.tie = true;
      settings.model.projection = settings.model.embedding_dim;
      settings.run.checkpoint_every = 3;
    }
    if (name == "adaptive") {
      // Measured once; the resumed part below has them from its checkpoint.
      const StateDict measured = fixture.trained(settings, name + " measured");
      settings.model.softmax.cutoffs = saved_options(measured).softmax.cutoffs;
      CHECK(settings.model.softmax.cutoffs.size() > 0);
    }
    const StateDict whole = fixture.trained(settings, name + " whole");
    settings.steps = 10;
    fixture.trained(settings, name + " parts");
    settings.steps = fixture.settings.steps;
    settings.run.resume = true;
    settings.model.softmax.cutoffs.clear();
    const StateDict parts = fixture.trained(settings, name + " parts");
    CHECK(same_bits(whole, parts));
    for (const char* key : {"rng.offset", "optimizer.steps", "schedule.factor", "schedule.best"}) {
      CHECK(whole.text(key) == parts.text(key));
    }
    CHECK(figures_without_times(whole) == figures_without_times(parts));
  }
}

// The lines of training steps, without times and peaks.
std::vector<nlohmann::json> train_lines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::istringstream file(read_whole(path));
  for (std::string line; std::getline(file, line);) {
    nlohmann::json entry = nlohmann::json::parse(line);
    if (entry["event"] != "train") continue;
    for (const char* key : {"seconds", "peak_bytes"}) entry.erase(key);
    lines.push_back(std::move(entry));
  }
  return lines;
}

TEST_CASE("lm train: telemetry tells the sketches' error, for any threads and after a break") {
  Fixture fixture;
  use_sketches(fixture.settings);
  const auto run = [&](const std::string& name, const auto& change) {
    TrainSettings settings = fixture.settings;
    settings.run.telemetry_rows = 20;
    settings.run.checkpoint = fixture.folder / name;
    settings.run.metrics = fixture.folder / (name + ".jsonl");
    change(settings);
    complete(settings);
    TrainOutcome outcome = train(settings);
    CHECK(outcome.finished);
    return outcome.report;
  };
  const auto latest = [&](const std::string& name) {
    return load_safetensors(CheckpointFolder(fixture.folder / name).latest());
  };
  const nlohmann::json report = run("whole", [](TrainSettings&) {});
  const std::vector<nlohmann::json> lines = train_lines(fixture.folder / "whole.jsonl");
  CHECK(lines.size() == 4);
  for (const nlohmann::json& line : lines) {
    REQUIRE(line["sketch_error"].size() == 4);
    for (const char* moment : {"embedding.weight.first", "embedding.weight.second",
                               "softmax.weight.first", "softmax.weight.second"}) {
      CAPTURE(moment);
      CHECK(line["sketch_error"][moment].get<double>() > 0);
    }
  }
  CHECK(report["telemetry_rows"] == 20);
  CHECK(report["sketch_error"].size() == 4);
  CHECK(report["sketch_error"] != lines.back()["sketch_error"]);  // two steps later

  run("threads", [](TrainSettings& settings) { settings.run.compute.threads = 2; });
  CHECK(train_lines(fixture.folder / "threads.jsonl") == lines);
  run("parts", [](TrainSettings& settings) { settings.steps = 7; });
  const auto resume = [](TrainSettings& settings) { settings.run.resume = true; };
  CHECK(run("parts", resume)["sketch_error"] == report["sketch_error"]);
  CHECK(train_lines(fixture.folder / "parts.jsonl") == lines);
  CHECK(same_bits(latest("parts"), latest("whole")));

  // The training is the same without, and a run can go on without; not the other way round.
  run("parts", [](TrainSettings& settings) {
    settings.run.resume = true;
    settings.run.telemetry_rows = 0;
  });
  const nlohmann::json plain =
      run("plain", [](TrainSettings& settings) { settings.run.telemetry_rows = 0; });
  CHECK_FALSE(plain.contains("sketch_error"));
  CHECK_FALSE(train_lines(fixture.folder / "plain.jsonl").front().contains("sketch_error"));
  CHECK(plain["valid_loss"] == report["valid_loss"]);
  CHECK(plain["optimizer_state_bytes"] == report["optimizer_state_bytes"]);
  CHECK_THROWS_WITH_AS(run("plain", resume), doctest::Contains("no reservoirs"), InvalidArgument);
  CHECK_THROWS_WITH_AS(run("dense",
                           [](TrainSettings& settings) {
                             settings.optimizer.moment1 = settings.optimizer.moment2 = "dense";
                           }),
                       doctest::Contains("lies in a sketch"), InvalidArgument);
}

TEST_CASE("lm train: a budget for the optimizer's state is kept, and named where it is too small") {
  Fixture fixture;
  const auto run = [&](const char* memory, const std::string& name, bool resume) {
    TrainSettings settings = fixture.settings;
    settings.optimizer.memory = memory;
    settings.run.checkpoint = fixture.folder / name;
    settings.run.resume = resume;
    if (resume) settings.steps += 4;
    complete(settings);
    return train(settings).report;
  };
  for (const char* softmax : {"full", "sampled"}) {
    fixture.settings.model.softmax.softmax = softmax;
    fixture.settings.model.softmax.samples = 64;
    for (const auto& [memory, bytes] : {std::pair("90KB", 90000), std::pair("200KB", 200000)}) {
      CAPTURE(memory);
      const std::string name = fmt::format("{}-{}", softmax, memory);
      const nlohmann::json report = run(memory, name, false);
      CHECK(report["optimizer_memory"] == bytes);
      int64_t taken = 0, planned = 0;
      for (const auto& [part, size] : report["optimizer_state_bytes"].items()) {
        taken += size.get<int64_t>();
      }
      for (const nlohmann::json& moment : report["optimizer_memory_plan"]) {
        planned += moment["bytes"].get<int64_t>();
        const bool sketched = std::string(moment["memory"]).find(":0.") != std::string::npos;
        CHECK(moment.contains("width") == sketched);
        if (sketched) CHECK((moment["width"] >= 1 && moment["depth"] >= 1));
      }
      CHECK(taken == planned);
      CHECK(taken <= bytes);
      CHECK(taken > bytes - bytes / 10);
      CHECK(run(memory, name, true)["optimizer_memory_plan"] == report["optimizer_memory_plan"]);
    }
  }
  CHECK_THROWS_WITH_AS(run("1KB", "small", false), doctest::Contains("the smallest that works"),
                       InvalidArgument);
}

TEST_CASE("lm train: resuming with other settings is refused") {
  Fixture fixture;
  fixture.settings.steps = 2;
  fixture.trained(fixture.settings, "run");
  TrainSettings settings = fixture.settings;
  settings.run.checkpoint = fixture.folder / "run";
  complete(settings);
  CHECK_THROWS_AS(train(settings), InvalidArgument);
  settings.run.resume = true;
  settings.model.hidden = 20;
  CHECK_THROWS_WITH_AS(train(settings), doctest::Contains("hidden"), InvalidArgument);
  settings.model.hidden = fixture.settings.model.hidden;
  settings.optimizer.beta1 = 0.5;
  CHECK_THROWS_WITH_AS(train(settings), doctest::Contains("beta1"), InvalidArgument);
}

TEST_CASE("lm train: resumed with a sketch of another width it goes on with the narrower") {
  Fixture fixture;
  TrainSettings settings = fixture.settings;
  settings.steps = 2;
  settings.optimizer.moment2 = "sketch:0.5,width=12";
  fixture.trained(settings, "run");
  settings.run.checkpoint = fixture.folder / "run";
  settings.run.resume = true;
  const auto resume_with = [&](const char* memory) {
    settings.optimizer.moment2 = memory;
    settings.steps += 2;
    complete(settings);
    return train(settings)
        .report["optimizer_state_bytes"]["embedding.weight.second.cells"]
        .get<int64_t>();
  };
  CHECK_THROWS_WITH_AS(resume_with("dense"), doctest::Contains("has moment2 = "), InvalidArgument);
  CHECK_THROWS_WITH_AS(resume_with("sketch:0.5,width=7"),
                       doctest::Contains("this optimizer has 7, and neither folds"),
                       InvalidArgument);
  CHECK_THROWS_WITH_AS(resume_with("sketch:0.5,width=6,depth=2"), doctest::Contains("depth"),
                       InvalidArgument);
  const int64_t half = resume_with("sketch:0.5,width=6");
  CHECK(half == fixture.settings.model.embedding_dim * 6 * 4);
  CHECK(resume_with("sketch:0.5,width=12") == half);
}

TEST_CASE("lm train: a finished run is not reported with another validation's loss") {
  Fixture fixture;
  fixture.settings.steps = 2;
  fixture.trained(fixture.settings, "run");
  const auto resumed = [&](const auto& change) {
    TrainSettings settings = fixture.settings;
    settings.run.checkpoint = fixture.folder / "run";
    settings.run.resume = true;
    change(settings);
    complete(settings);
    return train(settings).finished;
  };
  CHECK(resumed([](TrainSettings&) {}));
  CHECK_THROWS_WITH_AS(resumed([](TrainSettings& settings) { settings.valid = settings.test; }),
                       doctest::Contains("valid_checksum"), InvalidArgument);
  CHECK_THROWS_WITH_AS(resumed([](TrainSettings& settings) { settings.valid_limit = 100; }),
                       doctest::Contains("valid_limit"), InvalidArgument);
  CHECK_THROWS_WITH_AS(resumed([](TrainSettings& settings) { settings.run.eval_every = 1; }),
                       doctest::Contains("eval_every"), InvalidArgument);
  CHECK_THROWS_WITH_AS(resumed([](TrainSettings& settings) { settings.eval_batch = 3; }),
                       doctest::Contains("eval_batch"), InvalidArgument);
}

TEST_CASE("lm train: the report has what it must, and training learns") {
  Fixture fixture;
  TrainSettings& settings = fixture.settings;
  use_sketches(settings);
  settings.steps = 40;
  settings.optimizer.learning_rate = 0.02;
  settings.run.report = fixture.folder / "report.json";
  settings.run.metrics = fixture.folder / "metrics.jsonl";
  complete(settings);
  const TrainOutcome outcome = train(settings);
  REQUIRE(outcome.finished);
  const nlohmann::json report = nlohmann::json::parse(read_whole(settings.run.report));
  CHECK(report == outcome.report);
  for (const char* key :
       {"valid_perplexity", "test_perplexity", "tokens_per_second", "epochs", "steps", "seconds",
        "seed", "threads", "device", "optimizer", "train_loss_by_epoch", "phase_seconds",
        "peak_resident_bytes", "moment1", "moment2", "hidden"}) {
    CAPTURE(key);
    CHECK(report.contains(key));
  }
  int64_t sum_at_peak = 0;
  for (const char* category :
       {"parameter", "gradient", "optimizer_state", "activation", "workspace", "data", "index"}) {
    CHECK(report["peak_bytes"][category].is_number_integer());
    sum_at_peak += report["at_peak_bytes"][category].get<int64_t>();
  }
  CHECK(sum_at_peak == report["peak_bytes"]["total"]);
  int64_t state = 0;
  for (const auto& [name, bytes] : report["optimizer_state_bytes"].items())
    state += bytes.get<int64_t>();
  CHECK(state == report["peak_bytes"]["optimizer_state"]);
  CHECK(report["optimizer_state_bytes"].contains("embedding.weight.second.cells"));

  const double vocabulary = report["vocabulary"];
  CHECK(report["test_perplexity"].get<double>() < 0.9 * vocabulary);
  const std::string metrics = read_whole(settings.run.metrics);
  CHECK(std::count(metrics.begin(), metrics.end(), '\n') >= 40 / 3);
  // Nothing stays behind.
  CHECK(allocator(test::kTestDevice).current()[Category::activation] == 0);
}

TEST_CASE("lm train: every rule, tied and projected models, one table sketched") {
  Fixture fixture;
  TrainSettings& settings = fixture.settings;
  settings.steps = 3;
  for (const char* optimizer : {"sgd", "momentum", "adagrad", "rmsprop"}) {
    CAPTURE(optimizer);
    TrainSettings changed = settings;
    changed.optimizer.optimizer = optimizer;
    fixture.trained(changed, optimizer);
  }
  TrainSettings tied = settings;
  use_sketches(tied);
  tied.model.tie = true;
  tied.model.projection = tied.model.embedding_dim;
  const StateDict state = fixture.trained(tied, "tied");
  CHECK(state.tensors.contains("optimizer.embedding.weight.first.cells"));
  CHECK_FALSE(state.tensors.contains("softmax.weight"));

  TrainSettings one = settings;
  use_sketches(one);
  one.sketch_tables = "output";
  const StateDict output = fixture.trained(one, "output");
  CHECK(output.tensors.at("optimizer.embedding.weight.second.dense").numel() ==
        output.tensors.at("embedding.weight").numel());
  CHECK(output.tensors.at("optimizer.softmax.weight.second.cells").numel() <
        output.tensors.at("softmax.weight").numel());

  TrainSettings no_first = settings;
  no_first.optimizer.moment1 = "none";
  CHECK_FALSE(fixture.trained(no_first, "none")
                  .tensors.contains("optimizer.lstm.weight_ih_l0.first.dense"));

  tied.model.projection = 0;
  complete(tied);
  CHECK_THROWS_WITH_AS(train(tied), doctest::Contains("--tie"), InvalidArgument);
}

TEST_CASE("lm train: every softmax learns, and what it has learned is scored") {
  Fixture fixture;
  fixture.settings.steps = 30;
  fixture.settings.optimizer.learning_rate = 0.02;
  use_sketches(fixture.settings);
  for (const std::string name : {"full", "sampled", "lsh", "adaptive"}) {
    for (const bool tie : {false, true}) {
      CAPTURE(name);
      CAPTURE(tie);
      TrainSettings settings = fixture.settings;
      settings.model.softmax.softmax = name;
      settings.model.softmax.samples = 60;
      settings.model.softmax.cutoffs = {20, 90};
      settings.model.softmax.lsh_bits = 4;
      settings.model.softmax.lsh_tables = 4;
      settings.model.softmax.lsh_tail = 60;
      settings.model.tie = tie;
      if (tie) {
        settings.model.projection = settings.model.embedding_dim;
        settings.model.softmax.division = 1;
      }
      const StateDict state = fixture.trained(settings, name + (tie ? " tied" : ""));
      TrainedModel trained(state, test::kTestDevice);
      const TokenIds ids = read_text(settings.test, trained.vocabulary);
      const auto mean = evaluate(trained.model, ColumnBatches(ids, 10, 12), "test");
      REQUIRE(mean);
      CHECK(perplexity(mean->value()) < 0.9 * static_cast<double>(trained.vocabulary.size()));
      GenerateSettings generated;
      generated.prompt = "w0";
      generated.length = 5;
      CHECK(generate(trained, generated).starts_with("w0 "));
      const bool has_sketch =
          state.tensors.contains("optimizer.embedding.weight.first.cells") &&
          (tie || state.tensors.contains(name == "adaptive"
                                             ? "optimizer.softmax.tail.0.1.weight.first.cells"
                                             : "optimizer.softmax.weight.first.cells"));
      CHECK(has_sketch);
    }
  }
}

TEST_CASE("lm train: a softmax that does not fit is refused") {
  Fixture fixture;
  TrainSettings settings = fixture.settings;
  settings.model.softmax.softmax = "sampled";
  complete(settings);
  CHECK_THROWS_WITH_AS(train(settings), doctest::Contains("take fewer, or a full softmax"),
                       InvalidArgument);
  settings.model.softmax.softmax = "adaptive";
  settings.model.softmax.cutoffs = {30, 20};
  CHECK_THROWS_WITH_AS(train(settings), doctest::Contains("cutoff 20 after 30"), InvalidArgument);
}

TEST_CASE("lm train: a loss that is not finite ends it, naming the step") {
  Fixture fixture;
  fixture.settings.optimizer.optimizer = "sgd";
  fixture.settings.optimizer.learning_rate = 1e38;
  fixture.settings.run.clip = 0;
  complete(fixture.settings);
  CHECK_THROWS_WITH_AS(train(fixture.settings), doctest::Contains("step"), NumericError);
}

TEST_CASE("lm: a checkpoint scores and generates the same every time") {
  Fixture fixture;
  const StateDict state = fixture.trained(fixture.settings, "run");
  TrainedModel trained(state, test::kTestDevice);
  const TokenIds ids = read_text(fixture.settings.test, trained.vocabulary);
  const auto small = evaluate(trained.model, ColumnBatches(ids, 10, 12), "test");
  const auto large = evaluate(trained.model, ColumnBatches(ids, 10, 5), "test");
  REQUIRE(small);
  REQUIRE(large);
  CHECK(small->examples == (ids.size() / 10 - 1) * 10);
  // Segments only cut the work.
  CHECK(small->value() == doctest::Approx(large->value()).epsilon(1e-5));

  GenerateSettings settings;
  settings.prompt = "w0 w1";
  settings.length = 20;
  const std::string text = generate(trained, settings);
  CHECK(text.starts_with("w0 w1"));
  CHECK(generate(trained, settings) == text);
  settings.seed = 2;
  CHECK(generate(trained, settings) != text);
  settings.top_k = 1;
  const std::string greedy = generate(trained, settings);
  settings.top_k = 0;
  settings.temperature = 0;
  CHECK(generate(trained, settings) == greedy);
}

}  // namespace
}  // namespace sketchgrad::apps::lm
