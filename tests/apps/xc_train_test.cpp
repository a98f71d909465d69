#include <CLI/CLI.hpp>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/checkpoint_folder.h"
#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/config_file.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/apps/xc/data.h"
#include "sketchgrad/apps/xc/evaluate.h"
#include "sketchgrad/apps/xc/merge.h"
#include "sketchgrad/apps/xc/predict.h"
#include "sketchgrad/apps/xc/prepare.h"
#include "sketchgrad/apps/xc/task.h"
#include "sketchgrad/apps/xc/train.h"
#include "sketchgrad/optim/state_memory.h"
#include "sketchgrad/tests/apps/support.h"
#include "sketchgrad/tests/support/test_device.h"

namespace sketchgrad::apps::xc {
namespace {

// An emulated GPU is slow.
constexpr bool kOnCpu = test::kTestDevice == kCpu;
constexpr int kRows = kOnCpu ? 2000 : 300;
constexpr int kTestRows = kOnCpu ? 200 : 40;
constexpr uint32_t kClasses = kOnCpu ? 300 : 40;

// Rows whose classes have two words each, beside words that mean nothing. Every fourth has two
// labels, and of the test set every twentieth a label that the training set lacks.
struct Texts {
  std::vector<std::string> lines;
  Texts(int rows, uint32_t seed, bool with_unknown) : state_(seed) {
    for (int i = 0; i < rows; ++i) {
      const auto own = static_cast<uint32_t>(i);
      const uint32_t label = !with_unknown && own < kClasses ? own : next(kClasses);
      std::string text = words_of(label), labels = "\tclass " + std::to_string(label);
      if (i % 4 == 1) {
        const uint32_t other = (label + 1 + next(kClasses - 1)) % kClasses;
        text += words_of(other);
        labels += "\tclass " + std::to_string(other);
      }
      for (int j = 0; j < 3; ++j) text += "noise" + std::to_string(next(50)) + " ";
      if (with_unknown && i % 20 == 3) labels = "\tnowhere seen";
      lines.push_back(text);
      tsv += text + labels + "\n";
    }
  }
  std::string tsv;

 private:
  static std::string words_of(uint32_t label) {
    return "a" + std::to_string(label) + " b" + std::to_string(label) + " ";
  }
  uint32_t next(uint32_t below) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33) % below;
  }
  uint64_t state_;
};

void check_near(double a, double b) { CHECK(a == doctest::Approx(b).epsilon(1e-9)); }

struct Fixture {
  TemporaryFolder folder;
  Texts test_texts{kTestRows, 7, true};
  TrainSettings settings;

  Fixture() {
    settings.data = prepared("train", Texts(kRows, 1, false).tsv);
    settings.test = prepared("test", test_texts.tsv, settings.data);
    settings.model.hidden = 32;
    settings.model.buckets = 40;
    settings.repetitions = kOnCpu ? 3 : 2;
    settings.batch = kOnCpu ? "128" : "60";
    settings.steps = kOnCpu ? 20 : 7;
    settings.evaluation.batch = 64;
    settings.optimizer.learning_rate = 0.02;
    settings.model.softmax.samples = 30;
    settings.model.softmax.lsh_bits = 4;
    settings.model.softmax.lsh_tables = 4;
    settings.model.softmax.lsh_tail = 20;
    settings.model.softmax.lsh_rebuild = 4;
    settings.run.clip = 0;
    settings.run.log_every = 3;
    settings.run.compute.threads = 1;
    settings.run.compute.device = to_string(test::kTestDevice);
  }

  std::string prepared(const std::string& name, const std::string& tsv,
                       const std::string& like = {}) const {
    PrepareSettings prepare_settings{.input = {folder.file(name + ".tsv", tsv)},
                                     .output = folder / (name + ".bin"),
                                     .like = like};
    if (like.empty()) prepare_settings.hash_dim = 2048;
    REQUIRE(prepare(prepare_settings, [](const std::string&) {}));
    return prepare_settings.output;
  }

  nlohmann::json run(TrainSettings changed) const {
    complete(changed);
    const TrainOutcome outcome = train(changed);
    CHECK(outcome.finished);
    return outcome.report;
  }
  std::string checkpoint(TrainSettings changed, const std::string& name) const {
    changed.run.checkpoint = folder / name;
    run(changed);
    return changed.order == "together" ? CheckpointFolder(changed.run.checkpoint).latest()
                                       : (folder / name) + "/model.safetensors";
  }
  StateDict trained(const TrainSettings& changed, const std::string& name) const {
    return load_safetensors(checkpoint(changed, name));
  }
  ClassifierOptions model_of(TrainSettings& changed) const {
    complete(changed);
    const Examples examples = Examples::open(changed.data);
    ClassifierOptions options = changed.model;
    options.features = examples.feature_dim();
    options.classes = examples.classes();
    return options;
  }
};

void use_sketches(TrainSettings& settings) {
  settings.optimizer.moment1 = "sketch:0.3";
  settings.optimizer.moment2 = "sketch:0.3";
}

// A setting by its name.
TrainSettings variant(TrainSettings settings, const std::string& name) {
  if (name == "sketched") use_sketches(settings);
  if (name == "sigmoid") settings.model.meta_loss = "sigmoid";
  if (name == "shared hidden") settings.model.shared_hidden = true;
  if (name == "computed map") settings.model.stored_map = false;
  if (name == "full" || name == "sampled" || name == "lsh") settings.model.model = name;
  if (name == "sampled") settings.model.softmax.sampler = "unigram";
  return settings;
}

const std::vector<std::string> kVariants =
    kOnCpu ? std::vector<std::string>{"mach", "sketched", "sigmoid", "shared hidden",
                                      "full", "sampled",  "lsh",     "computed map"}
           : std::vector<std::string>{"mach", "sketched", "sampled"};
// What scores a model.
const std::vector<std::string> kScores = {"precision_at_1", "precision_at_3", "precision_at_5",
                                          "recall_at_1",    "recall_at_10",   "psp_at_1",
                                          "psp_at_3",       "psp_at_5"};

void check_same_scores(const nlohmann::json& a, const nlohmann::json& b) {
  for (const std::string& score : kScores) {
    CAPTURE(score);
    CHECK(a.at(score) == b.at(score));
  }
}

TEST_CASE("xc train: every model learns, and reports what it must") {
  Fixture fixture;
  for (const std::string& name : kVariants) {
    CAPTURE(name);
    TrainSettings settings = variant(fixture.settings, name);
    settings.steps = kOnCpu ? 100 : 25;
    settings.run.report = fixture.folder / "report.json";
    settings.run.metrics = fixture.folder / "metrics.jsonl";
    complete(settings);
    const TrainOutcome outcome = train(settings);
    REQUIRE(outcome.finished);
    const nlohmann::json report = nlohmann::json::parse(read_whole(settings.run.report));
    CHECK(report == outcome.report);
    for (const char* key :
         {"steps", "rows", "rows_per_second", "seconds", "training_seconds", "train_loss_by_epoch",
          "validations", "seed", "threads", "device", "optimizer", "hidden", "peak_bytes",
          "at_peak_bytes", "peak_resident_bytes", "ranked_rows_per_second",
          "rows_without_labels"}) {
      CAPTURE(key);
      CHECK(report.contains(key));
    }
    for (const std::string& score : kScores) {
      CAPTURE(score);
      CHECK(report.at(score).get<double>() >= 0);
      CHECK(report.at(score).get<double>() <= 1);
    }
    if (kClasses >= 100) CHECK(report.contains("recall_at_100"));
    // A class has 2 of 5 words or more, so nearly all rows can be told. Guesses are right once in
    // kClasses rows; every twentieth row has an unknown label alone, and of every fourth two labels
    // one can be first.
    CHECK(report.at("recall_at_1").get<double>() > 0.5);
    const auto& losses = report.at("train_loss_by_epoch");
    CHECK(losses.back().get<double>() < 0.8 * losses.front().get<double>());
    // Of one repetition, as in the metrics: about the logarithm of the choices before it learns.
    if (name == "mach") CHECK(losses.front().get<double>() < 1.05 * std::log(40));

    int64_t state = 0;
    for (const auto& [entry, bytes] : report.at("optimizer_state_bytes").items()) {
      state += bytes.get<int64_t>();
    }
    CHECK(state == report["peak_bytes"]["optimizer_state"].get<int64_t>());
    const std::string metrics = read_whole(settings.run.metrics);
    CHECK(std::count(metrics.begin(), metrics.end(), '\n') >= settings.steps / 3);
    const auto last =
        nlohmann::json::parse(metrics.substr(metrics.rfind('\n', metrics.size() - 2)));
    CHECK(last.at("loss") == report.at("validations").back().at("loss"));
    for (const Category category :
         {Category::activation, Category::parameter, Category::gradient}) {
      CHECK(allocator(test::kTestDevice).current()[category] == 0);
    }
  }
}

TEST_CASE("xc train: sketched state has the planned bytes, and tables can be chosen") {
  Fixture fixture;
  use_sketches(fixture.settings);
  fixture.settings.steps = 1;
  for (const std::string tables : {"both", "input", "output"}) {
    CAPTURE(tables);
    TrainSettings settings = fixture.settings;
    settings.sketch_tables = tables;
    const ClassifierOptions model = fixture.model_of(settings);
    const nlohmann::json state = fixture.run(settings).at("optimizer_state_bytes");
    const Moments moments = table_moments(settings.optimizer);
    const RuleStep rule = make_optimizer(settings.optimizer, 1).rule_step(1);
    const auto bytes_of = [&](const std::string& parameter) {
      int64_t sum = 0;
      for (const auto& [name, bytes] : state.items()) {
        if (name.starts_with(parameter + ".")) sum += bytes.get<int64_t>();
      }
      return sum;
    };
    const auto planned = [&](int64_t rows, bool sketched) {
      if (!sketched) return 2 * rows * model.hidden * 4;
      return planned_bytes(moments.first,
                           {"first", MomentRole::first, *rule.first, rows, model.hidden}) +
             planned_bytes(moments.second,
                           {"second", MomentRole::second, *rule.second, rows, model.hidden});
    };
    for (int r = 0; r < settings.repetitions; ++r) {
      const std::string number = std::to_string(r);
      CHECK(bytes_of("hidden.r" + number + ".weight") ==
            planned(model.features, tables != "output"));
      CHECK(bytes_of("mach.r" + number + ".weight") == planned(model.buckets, tables != "input"));
      CHECK(bytes_of("mach.r" + number + ".bias") == 2 * model.buckets * 4);
    }
  }
}

TEST_CASE("xc train: bands hold features and classes of like counts") {
  Fixture fixture;
  TrainSettings settings = fixture.settings;
  settings.model.model = "sampled";
  settings.steps = 1;
  settings.optimizer.moment2 = "banded:0.5";
  settings.run.checkpoint = fixture.folder / "banded";
  fixture.run(settings);
  const Examples examples = Examples::open(settings.data);
  std::vector<int64_t> rows(static_cast<size_t>(examples.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<int64_t> features(static_cast<size_t>(examples.feature_dim()));
  for (const int32_t feature : examples.batch(rows).features.to_vector<int32_t>()) {
    ++features[static_cast<size_t>(feature)];
  }
  const auto classes = examples.class_counts();
  const StateDict state = load_safetensors(settings.run.checkpoint + "/latest.safetensors");
  int tables = 0;
  for (const auto& [name, ranks] : state.tensors) {
    if (name.find(".row_ranks") == std::string::npos) continue;
    ++tables;
    const bool is_input = ranks.numel() == std::ssize(features);
    std::vector<int64_t> in_order(static_cast<size_t>(ranks.numel()));
    for (int64_t row = 0; row < ranks.numel(); ++row) {
      const auto at = static_cast<size_t>(row);
      in_order[static_cast<size_t>(ranks.data<int32_t>()[row])] =
          is_input ? features[at] : std::max(classes[at], 1);
    }
    CHECK(std::is_sorted(in_order.begin(), in_order.end(), std::greater<>()));
    CHECK(in_order.front() > in_order.back());
  }
  CHECK(tables == 2);
}

TEST_CASE("xc train: a budget for the optimizer's state is kept") {
  Fixture fixture;
  for (const char* model : {"mach", "sampled"}) {
    CAPTURE(model);
    TrainSettings settings = fixture.settings;
    settings.steps = 1;
    settings.model.model = model;
    settings.optimizer.memory = "100KB";
    const nlohmann::json report = fixture.run(settings);
    int64_t taken = 0, planned = 0;
    for (const auto& [name, bytes] : report.at("optimizer_state_bytes").items()) {
      taken += bytes.get<int64_t>();
    }
    for (const nlohmann::json& moment : report.at("optimizer_memory_plan")) {
      planned += moment["bytes"].get<int64_t>();
    }
    CHECK(taken == planned);
    CHECK(taken <= 100000);
    CHECK(taken > 80000);
  }
  TrainSettings settings = fixture.settings;
  settings.optimizer.memory = "100KB";
  settings.sketch_tables = "input";
  CHECK_THROWS_WITH_AS(complete(settings), doctest::Contains("--sketch-tables"), InvalidArgument);
}

TEST_CASE("xc train: out of memory on any device, settings are told that would take less") {
  Fixture fixture;
  fixture.settings.steps = 1;
  fixture.settings.run.memory_limit = "10KB";
  complete(fixture.settings);
  CHECK_THROWS_WITH_AS(train(fixture.settings), doctest::Contains("the run would take"),
                       OutOfMemory);
  CHECK_THROWS_WITH_AS(train(fixture.settings), doctest::Contains("--moment1 none --moment2 rank1"),
                       OutOfMemory);
  CHECK(allocator(test::kTestDevice).current()[Category::parameter] == 0);
  fixture.settings.run.memory_limit = "";
  CHECK(train(fixture.settings).finished);
}

TEST_CASE("xc train: the same bits with one and two threads") {
  Fixture fixture;
  fixture.settings.steps = kOnCpu ? 10 : 4;
  // More than one block of hidden values and of logits.
  fixture.settings.batch = "600";
  fixture.settings.model.buckets = 200;
  for (const std::string& name : kVariants) {
    CAPTURE(name);
    TrainSettings settings = variant(fixture.settings, name);
    const StateDict one = fixture.trained(settings, name + "1");
    settings.run.compute.threads = 2;
    CHECK(same_bits(one, fixture.trained(settings, name + "2")));
    settings.run.seed = 2;
    CHECK_FALSE(same_bits(one, fixture.trained(settings, name + "seed")));
  }
}

TEST_CASE("xc train: a resumed run goes on bit for bit") {
  Fixture fixture;
  for (const std::string& name : kVariants) {
    CAPTURE(name);
    TrainSettings settings = variant(fixture.settings, name);
    settings.run.schedule = "plateau:0.5,1";
    settings.run.eval_every = kOnCpu ? 5 : 3;
    settings.run.checkpoint_every = 4;
    settings.steps = kOnCpu ? 24 : 8;
    const StateDict whole = fixture.trained(settings, name + " whole");
    settings.steps = kOnCpu ? 20 : 6;  // after a validation, in the second epoch
    fixture.trained(settings, name + " parts");
    settings.steps = kOnCpu ? 24 : 8;
    settings.run.resume = true;
    const StateDict parts = fixture.trained(settings, name + " parts");
    CHECK(same_bits(whole, parts));
    for (const char* key :
         {"rng.offset", "optimizer.steps", "schedule.factor", "schedule.best", "xc.epoch"}) {
      CAPTURE(key);
      CHECK(whole.text(key) == parts.text(key));
    }
    CHECK(figures_without_times(whole) == figures_without_times(parts));
  }
}

TEST_CASE("xc train: one by one is together, bit for bit, and so are parts that are merged") {
  Fixture fixture;
  constexpr int kHalf = kOnCpu ? 2 : 1;
  for (const std::string& name : kVariants) {
    TrainSettings settings = variant(fixture.settings, name);
    if (settings.model.model != "mach" || settings.model.shared_hidden) continue;
    if (!kOnCpu && name != "mach") continue;
    CAPTURE(name);
    settings.repetitions = 2 * kHalf;
    const std::string together = fixture.checkpoint(settings, name + " together");
    const nlohmann::json report = fixture.run(settings);
    TrainSettings one_by_one = settings;
    one_by_one.order = "one-by-one";
    one_by_one.run.checkpoint = fixture.folder / (name + " apart");
    const nlohmann::json other = fixture.run(one_by_one);
    const StateDict model = load_model(together);
    CHECK(model.tensors.size() == 8 * kHalf);
    CHECK(same_bits(model, load_safetensors(one_by_one.run.checkpoint + "/model.safetensors")));
    check_same_scores(report, other);
    CHECK(other.at("trained").size() == 2 * kHalf);
    CHECK(other.at("peak_bytes")["total"].get<int64_t>() <
          report.at("peak_bytes")["total"].get<int64_t>());
    // It goes on where it was finished, too.
    one_by_one.run.resume = true;
    check_same_scores(report, fixture.run(one_by_one));

    settings.repetitions = kHalf;
    std::vector<std::string> halves;
    for (const int first : {kHalf, 0}) {
      settings.first_repetition = first;
      halves.push_back(fixture.checkpoint(settings, name + std::to_string(first)));
    }
    const std::string merged = fixture.folder / (name + ".safetensors");
    merge(halves, merged);
    const StateDict state = load_safetensors(merged);
    CHECK(same_bits(model, state));
    CHECK(saved_options(state).repetitions ==
          (kOnCpu ? std::vector<int32_t>{0, 1, 2, 3} : std::vector<int32_t>{0, 1}));
    const Examples test = Examples::open(settings.test);
    TrainedClassifier classifier(merged, test, test::kTestDevice);
    const auto scores = evaluate(classifier.model, test, settings.evaluation);
    REQUIRE(scores);
    check_same_scores(report, *scores);
  }
}

TEST_CASE("merge: what does not go together is refused") {
  Fixture fixture;
  TrainSettings settings = fixture.settings;
  settings.steps = 1;
  settings.repetitions = 1;
  const std::string first = fixture.checkpoint(settings, "first");
  const auto other = [&](const std::string& name, const auto& change) {
    TrainSettings changed = settings;
    changed.first_repetition = 1;
    change(changed);
    return fixture.checkpoint(changed, name);
  };
  const std::string output = fixture.folder / "merged";
  const auto refusal_of = [&](const std::string& second) {
    CHECK_FALSE(std::filesystem::exists(output));
    try {
      merge({first, second}, output);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto check_refused = [&](const std::string& second, const std::string& part) {
    const std::string message = refusal_of(second);
    CAPTURE(message);
    CAPTURE(part);
    CHECK(message.find(part) != std::string::npos);
  };
  check_refused(first, "repetition 0 is in");
  check_refused(other("seed", [](TrainSettings& s) { s.run.seed = 2; }), "seed = 2");
  check_refused(other("buckets", [](TrainSettings& s) { s.model.buckets = 41; }), "buckets = 41");
  check_refused(other("loss", [](TrainSettings& s) { s.model.meta_loss = "sigmoid"; }),
                "meta_loss");
  check_refused(other("shared", [](TrainSettings& s) { s.model.shared_hidden = true; }),
                "a hidden layer that repetitions share");
  check_refused(other("full", [](TrainSettings& s) { s.model.model = "full"; }), "it is full");
  check_refused(other("data",
                      [&](TrainSettings& s) {
                        // As many classes and features.
                        s.data = fixture.prepared("train2", Texts(kRows + 10, 5, false).tsv);
                        s.test = fixture.prepared("test2", fixture.test_texts.tsv, s.data);
                      }),
                "were trained on other classes or features");
  // Where the model is the same, its training must be, too.
  check_refused(other("batch", [](TrainSettings& s) { s.batch = "50"; }),
                "batch/latest.safetensors has batch = 50, " + first + " has " + settings.batch);
  check_refused(other("rate", [](TrainSettings& s) { s.optimizer.learning_rate = 0.5; }),
                "rate/latest.safetensors has learning_rate = 0.5, " + first + " has 0.02");
  check_refused(other("steps", [](TrainSettings& s) { s.steps = 2; }),
                "steps/latest.safetensors has steps = 2, " + first + " has 1");
  const std::string good = other("good", [](TrainSettings&) {});
  const std::string whole = read_whole(good);
  check_refused(fixture.folder.file("cut", whole.substr(0, whole.size() - 5)), "cut");
  check_refused(fixture.folder.file("none", "nothing of the kind"), "none");
  CHECK_THROWS_AS(merge({first, fixture.folder / "nowhere"}, output), Error);
  CHECK_THROWS_AS(merge({}, output), InvalidArgument);
  CHECK(refusal_of(good).empty());
}

TEST_CASE("xc train: another set may be that of validations") {
  Fixture fixture;
  TrainSettings settings = fixture.settings;
  settings.steps = 3;
  const std::string other =
      fixture.prepared("valid", Texts(kTestRows + 5, 9, true).tsv, settings.data);
  settings.valid = other;
  const nlohmann::json report = fixture.run(settings);
  CHECK(report["rows_without_labels"].get<int64_t>() + report["ranked_rows"].get<int64_t>() ==
        kTestRows);
  settings.valid.clear();
  const nlohmann::json by_test = fixture.run(settings);
  settings.test = other;
  const nlohmann::json by_other = fixture.run(settings);
  CHECK(report["validations"] == by_other["validations"]);
  CHECK(report["validations"] != by_test["validations"]);
  CHECK(report["recall_at_10"] == by_test["recall_at_10"]);
  settings.valid = fixture.prepared("valid2", fixture.test_texts.tsv);
  CHECK_THROWS_WITH_AS(fixture.run(settings), doctest::Contains("--valid: "), InvalidArgument);
}

TEST_CASE("xc train: classes of the xc format need not be in order of frequency") {
  Fixture fixture;
  std::string rows = "40 8 6\n";
  for (int i = 0; i < 40; ++i) rows += fmt::format("{} {}:1\n", i % 5, i % 8);
  PrepareSettings prepared{.input = {fixture.folder.file("rows.txt", rows)},
                           .output = fixture.folder / "rows.bin",
                           .format = "xc"};
  REQUIRE(prepare(prepared, [](const std::string&) {}));
  TrainSettings settings = fixture.settings;
  settings.data = settings.test = prepared.output;
  settings.steps = 2;
  settings.model.model = "sampled";
  settings.model.softmax.samples = 4;
  CHECK_THROWS_WITH_AS(fixture.run(settings), doctest::Contains("--sampler log_uniform"),
                       InvalidArgument);
  settings.model.softmax.sampler = "unigram";
  CHECK(fixture.run(settings)["classes"] == 6);
  settings.model.model = "lsh";
  CHECK_THROWS_WITH_AS(fixture.run(settings), doctest::Contains("--lsh-tail"), InvalidArgument);
  settings.model.softmax.lsh_tail = 0;
  CHECK(fixture.run(settings)["classes"] == 6);
}

TEST_CASE("merge: what is joined has parameters and options alone, and can be joined again") {
  Fixture fixture;
  TrainSettings settings = fixture.settings;
  settings.steps = 1;
  settings.repetitions = 1;
  std::vector<std::string> parts;
  for (const int repetition : {0, 1, 2}) {
    settings.first_repetition = repetition;
    parts.push_back(fixture.checkpoint(settings, "r" + std::to_string(repetition)));
  }
  const auto joined = [&](const std::string& name, const std::vector<std::string>& models) {
    merge(models, fixture.folder / name);
    return fixture.folder / name;
  };
  const std::string whole = joined("whole", parts);
  const StateDict state = load_safetensors(whole);
  std::vector<std::string> keys;
  for (const auto& [key, value] : state.metadata) keys.push_back(key);
  CHECK(keys == std::vector<std::string>{"xc.classes_checksum", "xc.model"});
  CHECK(state.tensors.size() == 4 * parts.size());

  const std::string expected = read_whole(whole);
  CHECK(read_whole(joined("turned", {parts[2], parts[0], parts[1]})) == expected);
  const std::string two = joined("two", {parts[2], parts[0]});
  CHECK(read_whole(joined("again", {parts[1], two})) == expected);
  CHECK(read_whole(joined("again", {two, parts[1]})) == expected);

  // What the first one lacks is compared among the others.
  settings.steps = 2;
  settings.first_repetition = 3;
  const std::string longer = fixture.checkpoint(settings, "longer");
  CHECK_THROWS_WITH_AS(joined("refused", {two, parts[1], longer}), doctest::Contains("steps = 2"),
                       InvalidArgument);
}

TEST_CASE("xc train: what does not go together is refused, and so is another run's checkpoint") {
  Fixture fixture;
  fixture.settings.steps = 2;
  const std::string latest = fixture.checkpoint(fixture.settings, "run");
  const auto train_on = [&](const auto& change) {
    TrainSettings settings = fixture.settings;
    settings.run.checkpoint = fixture.folder / "run";
    settings.run.resume = true;
    change(settings);
    complete(settings);
    return train(settings).finished;
  };
  CHECK(train_on([](TrainSettings&) {}));
  const auto check_refused = [&](const char* part, const auto& change) {
    CAPTURE(part);
    CHECK_THROWS_WITH_AS(train_on(change), doctest::Contains(part), InvalidArgument);
  };
  check_refused("--resume", [](TrainSettings& s) { s.run.resume = false; });
  check_refused("hidden", [](TrainSettings& s) { s.model.hidden = 20; });
  check_refused("repetitions", [](TrainSettings& s) { s.repetitions = 1; });
  check_refused("buckets", [](TrainSettings& s) { s.model.buckets = 41; });
  check_refused("batch", [](TrainSettings& s) { s.batch = "50"; });
  check_refused("model", [](TrainSettings& s) { s.model.model = "full"; });
  check_refused("beta1", [](TrainSettings& s) { s.optimizer.beta1 = 0.5; });
  check_refused("moment2", [](TrainSettings& s) { s.optimizer.moment2 = "sketch:0.5"; });
  check_refused("valid_checksum", [&](TrainSettings& s) {
    s.test = fixture.prepared("test3", Texts(kTestRows, 9, true).tsv, s.data);
  });
  check_refused("--batch", [](TrainSettings& s) { s.batch = "many"; });
  check_refused("--batch", [](TrainSettings& s) { s.batch = "0"; });
  check_refused(kOnCpu ? "--memory-budget" : "are of memory on the CPU",
                [](TrainSettings& s) { s.batch = "auto"; });
  check_refused("one-by-one", [](TrainSettings& s) {
    s.order = "one-by-one";
    s.model.shared_hidden = true;
  });
  check_refused("--sampled-ranks", [](TrainSettings& s) {
    s.model.model = "full";
    s.evaluation.sampled_ranks = 10;
  });
  check_refused("other classes or features", [&](TrainSettings& s) {
    s.test = fixture.prepared("test4", fixture.test_texts.tsv);
  });
  check_refused("--feature-dropout", [](TrainSettings& s) { s.feature_dropout = 1; });
  check_refused("rows has a class of the training set", [&](TrainSettings& s) {
    std::string unknown;
    for (int64_t i = 0; i < kTestRows; ++i) unknown += "a1 b1\tnobody\n";
    s.run.checkpoint.clear();
    s.run.resume = false;
    s.test = fixture.prepared("test5", unknown, s.data);
  });
  check_refused("is of a model that was trained together",
                [](TrainSettings& s) { s.order = "one-by-one"; });
  check_refused("are of memory on the CPU", [](TrainSettings& s) {
    s.run.compute.device = "cuda";
    s.plan = true;
  });
  // Before training, though it is of the ranking that comes after.
  check_refused("--best-buckets: the best 41 of 40",
                [](TrainSettings& s) { s.evaluation.ranking.best_buckets = 41; });
  check_refused("--best-buckets is for models of MACH", [](TrainSettings& s) {
    s.model.model = "full";
    s.evaluation.ranking.best_buckets = 1;
  });
  check_refused("--proven", [](TrainSettings& s) { s.evaluation.ranking.proven = true; });
  check_refused("--propensity-a", [](TrainSettings& s) { s.evaluation.propensity_a = 0; });
  check_refused("--sampled-ranks", [](TrainSettings& s) { s.evaluation.sampled_ranks = kClasses; });
  check_refused("unbiased", [](TrainSettings& s) {
    s.model.buckets = 1;
    s.evaluation.ranking.aggregation = "unbiased";
  });
  // A checkpoint that is none of this application.
  StateDict foreign;
  foreign.set("rng.seed", "1");
  save_safetensors(latest, foreign);
  CHECK_THROWS_WITH_AS(train_on([](TrainSettings&) {}), doctest::Contains("is no model of xc"),
                       DataError);
}

TEST_CASE("xc train: a loss that is not finite ends it, naming the step") {
  Fixture fixture;
  fixture.settings.optimizer.optimizer = "sgd";
  fixture.settings.optimizer.learning_rate = 1e38;
  complete(fixture.settings);
  CHECK_THROWS_WITH_AS(train(fixture.settings), doctest::Contains("step"), NumericError);
}

TEST_CASE("xc train: validation does not depend on how rows are cut") {
  Fixture fixture;
  const Examples train_set = Examples::open(fixture.settings.data);
  // Half of the rows have no label that is known.
  std::string tsv;
  for (size_t i = 0; i < 30; ++i) {
    tsv += fixture.test_texts.lines[i] + (i < 15 ? "\tunheard of" : "\tclass 1\tclass 2") + "\n";
  }
  const Examples rows = Examples::open(fixture.prepared("few", tsv, fixture.settings.data));
  for (const std::string& name : kVariants) {
    CAPTURE(name);
    TrainSettings settings = variant(fixture.settings, name);
    const ClassifierOptions options = fixture.model_of(settings);
    Classifier model(options, test::kTestDevice,
                     std::vector<int64_t>(static_cast<size_t>(options.classes), 1));
    const auto whole = mean_loss(model, rows, 0, 30);
    const auto parts = mean_loss(model, rows, 0, 7);
    REQUIRE(whole);
    REQUIRE(parts);
    CHECK(*parts == doctest::Approx(*whole).epsilon(1e-5));
    CHECK(*mean_loss(model, rows, 20, 30) != *whole);
  }
}

TEST_CASE("xc: ranking by the best buckets finds all where all buckets are among them") {
  Fixture fixture;
  const std::string checkpoint = fixture.checkpoint(fixture.settings, "run");
  const Examples test = Examples::open(fixture.settings.test);
  TrainedClassifier trained(checkpoint, test, test::kTestDevice);
  EvaluationSettings settings = fixture.settings.evaluation;
  for (const std::string aggregation : {"geometric", "mean", "min", "median", "unbiased"}) {
    CAPTURE(aggregation);
    settings.ranking = {aggregation, 0, false};
    const auto exact = evaluate(trained.model, test, settings);
    settings.ranking.best_buckets = 40;
    const auto by_buckets = evaluate(trained.model, test, settings);
    check_same_scores(*exact, *by_buckets);
    settings.ranking = {aggregation, 1, true};
    check_same_scores(*exact, *evaluate(trained.model, test, settings));
    CHECK(exact->at("recall_at_1").get<double>() > 0);
  }
  settings.ranking = {};
  settings.sampled_ranks = 20;
  const auto sampled = evaluate(trained.model, test, settings);
  CHECK(sampled->at("sampled").at("sampled_recall_at_1").get<double>() >
        sampled->at("recall_at_1").get<double>());
  settings.limit = 10;
  CHECK(evaluate(trained.model, test, settings)->at("ranked_rows").get<int64_t>() == 10);
  settings.ranking.best_buckets = 41;
  CHECK_THROWS_WITH_AS(evaluate(trained.model, test, settings), doctest::Contains("41 of 40"),
                       InvalidArgument);
}

TEST_CASE("xc: the index of a ranking is built when the model is prepared for it") {
  Fixture fixture;
  Classifier model(fixture.model_of(fixture.settings), test::kTestDevice);
  const auto index_bytes = [] { return allocator(kCpu).current()[Category::index]; };
  const int64_t before = index_bytes();
  model.prepare({});
  CHECK(index_bytes() == before);
  model.prepare({.best_buckets = 1});
  CHECK(index_bytes() > before);
}

TEST_CASE("xc: a model is not used with other data") {
  Fixture fixture;
  fixture.settings.steps = 1;
  const std::string checkpoint = fixture.checkpoint(fixture.settings, "run");
  const Examples other = Examples::open(fixture.prepared("other", Texts(900, 5, false).tsv));
  CHECK_THROWS_WITH_AS(TrainedClassifier(checkpoint, other),
                       doctest::Contains("was trained on other classes or features"), DataError);
  StateDict foreign;
  foreign.set("lm.model", "{}");
  const std::string path = fixture.folder / "foreign";
  save_safetensors(path, foreign);
  CHECK_THROWS_WITH_AS(TrainedClassifier(path, other), doctest::Contains("is no model of xc"),
                       DataError);
  foreign.set("xc.model", "{\"hidden\": \"wide\"}");
  save_safetensors(path, foreign);
  CHECK_THROWS_WITH_AS(TrainedClassifier(path, other), doctest::Contains("xc.model"), DataError);
  // A parameter is missing.
  StateDict state = load_model(checkpoint);
  state.tensors.erase("mach.r1.bias");
  save_safetensors(path, state);
  const Examples test = Examples::open(fixture.settings.test);
  CHECK_THROWS_WITH_AS(TrainedClassifier(path, test), doctest::Contains("mach.r1.bias"), DataError);
}

TEST_CASE("xc predict: answers are the best classes of the same text") {
  Fixture fixture;
  for (const std::string name : {"mach", "sampled"}) {
    CAPTURE(name);
    const TrainSettings settings = variant(fixture.settings, name);
    const std::string checkpoint = fixture.checkpoint(settings, name);
    const Examples test = Examples::open(settings.test);
    TrainedClassifier trained(checkpoint, test, test::kTestDevice);
    PredictSettings predict_settings;
    predict_settings.checkpoint = checkpoint;
    predict_settings.data = settings.data;
    predict_settings.k = 5;
    predict_settings.compute = settings.run.compute;
    const auto answers = [&](const std::string& queries) {
      std::istringstream in(queries);
      std::ostringstream out;
      const bool finished = predict(predict_settings, in, out);
      CHECK(finished);
      std::vector<nlohmann::json> lines;
      std::istringstream text(out.str());
      for (std::string line; std::getline(text, line);)
        lines.push_back(nlohmann::json::parse(line));
      return lines;
    };
    std::string queries;
    for (int i = 0; i < 10; ++i) queries += fixture.test_texts.lines[static_cast<size_t>(i)] + "\n";
    const std::vector<nlohmann::json> lines = answers(queries);
    REQUIRE(lines.size() == 10);
    for (int64_t i = 0; i < 10; ++i) {
      const std::vector<int64_t> row{i};
      const TopK top =
          trained.model.predict(features_of(test.batch(row)), RankingSettings{}.ranking()).top_k(5);
      const nlohmann::json& line = lines[static_cast<size_t>(i)];
      CHECK(line.at("query") == fixture.test_texts.lines[static_cast<size_t>(i)]);
      REQUIRE(line.at("classes").size() == 5);
      for (size_t j = 0; j < 5; ++j) {
        CHECK(line["classes"][j] == test.class_name(top.ids.data<int32_t>()[j]));
        check_near(line["scores"][j], top.scores.data<float>()[j]);
      }
    }
    // An empty line, bytes that are no UTF-8, an end of line of another system, none at the end.
    const std::vector<nlohmann::json> odd = answers("\na1 \xff\xc3 b1\na1 b1\r\na1 b1");
    REQUIRE(odd.size() == 4);
    CHECK(odd[0]["query"] == "");
    CHECK(odd[0]["classes"].size() == 5);
    CHECK(odd[1]["query"] == "a1 \xef\xbf\xbd\xef\xbf\xbd b1");
    CHECK(odd[2] == odd[3]);
    CHECK(answers("").empty());

    predict_settings.k = 1 << 20;
    CHECK(answers("a1 b1")[0]["classes"].size() == kClasses);
    // What cannot be is refused before there is a query.
    const auto check_refused = [&](const RankingSettings& ranking, const char* part) {
      predict_settings.ranking = ranking;
      CHECK_THROWS_WITH_AS(answers(""), doctest::Contains(part), InvalidArgument);
    };
    check_refused({.proven = true}, "--proven");
    if (name == "mach") {
      check_refused({.best_buckets = 41}, "--best-buckets: the best 41 of 40");
      predict_settings.ranking = {.best_buckets = 1};
      const auto few = answers("a1 b1")[0]["classes"].size();
      CHECK(few > 0);
      CHECK(few < kClasses);
    } else {
      check_refused({.best_buckets = 1}, "--best-buckets is for models of MACH");
    }
  }
}

TEST_CASE("xc predict: data without texts is refused") {
  Fixture fixture;
  PrepareSettings prepare_settings{
      .input = {fixture.folder.file("xc.txt", "3 6 4\n2,0 1:3 5:4\n1 0:1\n2,3 2:1\n")},
      .output = fixture.folder / "xc.bin"};
  prepare_settings.format = "xc";
  REQUIRE(prepare(prepare_settings, [](const std::string&) {}));
  TrainSettings settings = fixture.settings;
  settings.data = settings.test = prepare_settings.output;
  settings.steps = 2;
  settings.batch = "2";
  PredictSettings predict_settings;
  predict_settings.checkpoint = fixture.checkpoint(settings, "xc");
  predict_settings.data = settings.data;
  std::istringstream in("1:3");
  std::ostringstream out;
  CHECK_THROWS_AS(predict(predict_settings, in, out), DataError);
}

TEST_CASE("quantile: by nearest rank") {
  CHECK(quantile({7}, 0.5) == 7);
  CHECK(quantile({7}, 0.99) == 7);
  CHECK(quantile({9, 7}, 0.5) == 7);
  CHECK(quantile({9, 7}, 0.51) == 9);
  CHECK(quantile({3, 1, 2}, 0.5) == 2);
  std::vector<double> values;
  for (int i = 200; i >= 1; --i) values.push_back(i);
  CHECK(quantile(values, 0.5) == 100);
  CHECK(quantile(values, 0.99) == 198);
  CHECK(quantile(values, 1) == 200);
}

TEST_CASE("parse_bytes: numbers with units") {
  CHECK(parse_bytes("--b", "1000000") == 1000000);
  CHECK(parse_bytes("--b", "12B") == 12);
  CHECK(parse_bytes("--b", "500MB") == 500000000);
  CHECK(parse_bytes("--b", "2KB") == 2000);
  CHECK(parse_bytes("--b", "2GiB") == int64_t{2} << 30);
  CHECK(parse_bytes("--b", "1.5MiB") == 3 << 19);
  CHECK(parse_bytes("--b", "3KiB") == 3 << 10);
  CHECK(parse_bytes("--b", "8589934591GiB") == 0x7fffffffc0000000);
  for (const char* wrong :
       {"", "MB", "-1MB", "0", "0.5", "1 GB", "1TB", "1gb", "x", "1e30", "nan", "inf", "1MB ",
        "8589934592GiB", "999999999999999GiB", "9223372036854775808"}) {
    CAPTURE(wrong);
    CHECK_THROWS_WITH_AS(parse_bytes("--b", wrong), doctest::Contains("--b"), InvalidArgument);
  }
}

// The plan is of the CPU.
#if !defined(SKETCHGRAD_TEST_ON_CUDA)
struct Sized {
  std::string name;
  std::string moment;  // part of what is done at the peak
  void (*change)(TrainSettings&);
};

// Sizes at which something else than the parameters decides, and each moment of a run is the peak
// somewhere.
const Sized kSized[] = {
    {"together", "forward/mach/mach.r", [](TrainSettings&) {}},
    {"one repetition", "forward/mach/mach.r", [](TrainSettings& s) { s.repetitions = 1; }},
    {"many features", "backward/embedding_bag.backward",
     [](TrainSettings& s) {
       s.model.buckets = 30;
       s.model.hidden = 300;
       s.batch = "400";
     }},
    {"more features than rows", "backward/embedding_bag.backward",
     [](TrainSettings& s) {
       use_sketches(s);
       s.model.buckets = 30;
       s.batch = "100";
     }},
    {"sketched", "optimizer",
     [](TrainSettings& s) {
       s.optimizer.moment1 = "sketch:0.1";
       s.optimizer.moment2 = "sketch:0.15";
       s.repetitions = 1;
       s.model.buckets = 30;
       s.batch = "64";
     }},
    {"sketched in depths", "optimizer",
     [](TrainSettings& s) {
       s.optimizer.moment1 = "sketch:0.5,reading=own_delta";
       s.optimizer.moment2 = "sketch:0.4,reading=mean_delta";
       s.model.buckets = 600;
       s.batch = "24";
       s.evaluation.batch = 10;
     }},
    {"sketched outputs", "forward/mach/mach.r",
     [](TrainSettings& s) {
       use_sketches(s);
       s.sketch_tables = "output";
     }},
    {"hybrid sketches", "optimizer/step hidden.r0.weight",
     [](TrainSettings& s) {
       s.optimizer.moment1 = "hybrid:0.1";
       s.optimizer.moment2 = "hybrid:0.15";
       s.sketch_tables = "input";
       s.repetitions = 1;
       s.model.buckets = 30;
       s.batch = "64";
     }},
    {"decay of skipped steps", "optimizer",
     [](TrainSettings& s) {
       s.optimizer.moment1 = "sketch:0.1";
       s.optimizer.moment2 = "sketch:0.15";
       s.optimizer.decay_skipped = true;
       s.repetitions = 1;
       s.model.buckets = 30;
       s.batch = "64";
     }},
    {"telemetry beside", "forward/mach/mach.r",
     [](TrainSettings& s) {
       use_sketches(s);
       s.run.telemetry_rows = 300;
     }},
    {"a step of the telemetry", "telemetry",
     [](TrainSettings& s) {
       use_sketches(s);
       s.run.telemetry_rows = 2000;
       s.batch = "64";
       s.evaluation.batch = 10;
     }},
    {"shared hidden", "forward/mach/mach.r",
     [](TrainSettings& s) { s.model.shared_hidden = true; }},
    {"sigmoid, chunks", "forward/mach/mach.r",
     [](TrainSettings& s) {
       s.model.meta_loss = "sigmoid";
       s.model.stored_map = false;
       s.model.buckets = 9000;
       s.model.hidden = 16;
     }},
    {"thin products", "forward/mach/mach.r",
     [](TrainSettings& s) {
       s.model.buckets = 6000;
       s.model.hidden = 128;
       s.repetitions = 1;
       s.batch = "160";
       s.evaluation.batch = 16;
     }},
    {"full", "forward/softmax", [](TrainSettings& s) { s.model.model = "full"; }},
    {"sampled", "forward/softmax",
     [](TrainSettings& s) {
       s.model.model = "sampled";
       s.model.softmax.samples = 250;
     }},
    {"sampled by counts", "forward/softmax",
     [](TrainSettings& s) {
       s.model.model = "sampled";
       s.model.softmax.samples = 250;
       s.model.softmax.sampler = "unigram";
       s.batch = "64";
     }},
    {"validation", "validation",
     [](TrainSettings& s) {
       s.model.model = "full";
       s.batch = "8";
       s.evaluation.batch = 180;
       s.evaluation.limit = 5;
     }},
    {"ranking", "ranking",
     [](TrainSettings& s) {
       s.batch = "8";
       s.evaluation.batch = 200;
       s.repetitions = 4;
     }},
    {"ranking by an index", "ranking",
     [](TrainSettings& s) {
       s.batch = "8";
       s.model.hidden = 16;
       s.evaluation.batch = 150;
       s.evaluation.ranking.best_buckets = 100;
       s.evaluation.sampled_ranks = 30;
     }},
    {"one by one", "forward/mach/mach.r", [](TrainSettings& s) { s.order = "one-by-one"; }},
    {"one by one, ranking", "ranking",
     [](TrainSettings& s) {
       s.order = "one-by-one";
       s.batch = "8";
       s.evaluation.batch = 200;
       s.repetitions = 6;
     }},
};

TrainSettings plan_settings(const Fixture& fixture) {
  TrainSettings settings = fixture.settings;
  settings.model.hidden = 96;
  settings.model.buckets = 600;
  settings.repetitions = 2;
  settings.batch = "1500";
  settings.steps = 2;
  settings.evaluation.batch = 20;
  return settings;
}

void check_plan(const Fixture& fixture, const std::string& name, TrainSettings settings,
                const std::string& moment) {
  if (settings.order == "one-by-one") settings.run.checkpoint = fixture.folder / name;
  complete(settings);
  const PlannedRun plan = make_planner(settings)->plan(std::stoll(settings.batch));
  const nlohmann::json report = fixture.run(settings);
  CAPTURE(name);
  CAPTURE(apps::to_json(plan.at_peak).dump());
  CAPTURE(report["at_peak_bytes"].dump());
  if (settings.optimizer.moment1.starts_with("hybrid")) {  // rows are claimed by numbers
    CHECK(static_cast<double>(plan.at_peak.total) ==
          doctest::Approx(report["at_peak_bytes"]["total"].get<double>()).epsilon(0.02));
  } else {
    CHECK(apps::to_json(plan.at_peak) == report["at_peak_bytes"]);
  }
  CHECK(plan.moment.find(moment) != std::string::npos);
}

TEST_CASE("xc plan: it is the peak of the run, to the byte") {
  Fixture fixture;
  for (const Sized& sized : kSized) {
    TrainSettings settings = plan_settings(fixture);
    sized.change(settings);
    check_plan(fixture, sized.name, settings, sized.moment);
  }
}

TEST_CASE("xc plan: of the bundled configuration, in small") {
  const Fixture fixture;
  CLI::App app;
  TrainSettings settings;
  add_options(app, settings);
  add_config_option(app, "xc");
  parse(app, expand_config({"--config", "amazon", "--data", fixture.settings.data, "--test",
                            fixture.settings.test, "--hidden", "64", "--buckets", "300", "--batch",
                            "500", "--steps", "4"},
                           app, "xc"));
  check_plan(fixture, "amazon", settings, "");
}

TEST_CASE("xc plan: so many classes that a search has tables") {
  Fixture fixture;
  std::string tsv;
  for (int i = 0; i < 5000; ++i) {
    tsv += "w" + std::to_string(i) + "\tclass " + std::to_string(i) + "\n";
  }
  TrainSettings settings = plan_settings(fixture);
  settings.data = settings.test = fixture.prepared("many", tsv);
  settings.model.hidden = 8;
  settings.model.buckets = 500;
  settings.repetitions = 4;
  settings.batch = "8";
  settings.evaluation.batch = settings.evaluation.limit = 100;
  settings.valid_limit = 100;
  check_plan(fixture, "all classes", settings, "mach_top_k");
  settings.evaluation.ranking.best_buckets = 5;
  check_plan(fixture, "best buckets", settings, "mach_index.top_k");
  settings.evaluation.ranking.proven = true;
  check_plan(fixture, "proven", settings, "mach_index.top_k");
}

TEST_CASE("xc plan: the largest batch keeps to the budget") {
  Fixture fixture;
  for (const std::string order : {"together", "one-by-one"}) {
    TrainSettings settings = plan_settings(fixture);
    settings.order = order;
    settings.run.checkpoint = fixture.folder / order;
    complete(settings);
    const auto planner = make_planner(settings);
    const auto total = [&](int64_t rows) { return planner->plan(rows).at_peak.total; };
    for (const int64_t rows : {8, 100, 777}) {
      const int64_t budget = total(rows);
      const int64_t batch = planner->largest_batch(budget);
      CHECK(total(batch) <= budget);
      CHECK(total(batch + 1) > budget);
    }
    CHECK(planner->largest_batch(int64_t{1} << 40) == kRows);
    settings.batch = "auto";
    settings.memory_budget = std::to_string(total(1) - 1);
    CHECK_THROWS_WITH_AS(
        train(settings),
        doctest::Contains(
            (std::to_string(total(1)) + " bytes that a run with batches of a row").c_str()),
        InvalidArgument);
    // As a flag.
    settings.memory_budget = std::to_string(total(200));
    const nlohmann::json report = fixture.run(settings);
    CHECK(report["batch"].get<int64_t>() >= 200);
    CHECK(report["peak_bytes"]["total"].get<double>() <= 1.02 * static_cast<double>(total(200)));
    const std::string table = plan(settings);
    for (const char* word : {"together", "one by one", "a process each", "total", "peak at"}) {
      CHECK(table.find(word) != std::string::npos);
    }
  }
}
#endif

}  // namespace
}  // namespace sketchgrad::apps::xc
