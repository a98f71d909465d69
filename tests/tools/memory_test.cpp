// The program memory: its figures, and the built program from outside.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/framework/memory_profile.h"
#include "sketchgrad/framework/upstream_memory.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/apps/support.h"
#include "sketchgrad/tools/memory/diff.h"
#include "sketchgrad/tools/memory/limits.h"
#include "sketchgrad/tools/memory/report.h"
#include "sketchgrad/tools/memory/report_json.h"
#include "sketchgrad/tools/memory/summary.h"

namespace sketchgrad::memory {
namespace {

using apps::CommandResult;
using apps::ProfiledRun;
using apps::TemporaryFolder;
using nlohmann::json;

// A run of some steps of a model with an embedding and an LSTM, the second step the largest.
class SmallRun {
 public:
  explicit SmallRun(const std::string& embedding_state = "embedding.weight.first.cells",
                    int64_t embedding_state_bytes = 500) {
    take(4000, Category::parameter, "embedding.weight");
    take(1000, Category::parameter, "lstm.weight_ih_l0");
    take(embedding_state_bytes, Category::optimizer_state, embedding_state);
    take(1000, Category::optimizer_state, "lstm.weight_ih_l0.first");
    run_.state = {{embedding_state, embedding_state_bytes}, {"lstm.weight_ih_l0.first", 1000}};
    run_.dense_state_bytes = 5000;
    run_.arguments = {"lm", "train"};
  }

  void step(int64_t hidden_bytes) {
    profile_.begin("step", ++run_.steps);
    void* const ids = take(80, Category::data, "batch.inputs");
    void* const hidden = forward(hidden_bytes);
    {
      const MemoryScope backward("backward"), scope("lstm.backward");
      void* const sums = take(700, Category::workspace, "sums");
      memory_.release(take(30, Category::workspace, "sums"));
      memory_.release(sums);
    }
    {
      const MemoryScope optimizer("optimizer"), scope("step embedding.weight");
      memory_.release(take(64, Category::index, "keys"));
    }
    memory_.release(hidden);
    memory_.release(ids);
  }

  // What the step holds by then is released, as an error does.
  void step_out_of_memory() {
    profile_.begin("step", ++run_.steps);
    void* const hidden = forward(2000);
    memory_.set_limit(8500);
    const MemoryScope backward("backward"), scope("lstm.backward");
    CHECK_THROWS_AS(take(900, Category::gradient, "lstm.grad_x_l0"), OutOfMemory);
    memory_.release(hidden);
  }

  void begin(const char* stretch) { profile_.begin(stretch, profile_.step()); }

  ProfiledRun profiled() {
    run_.record = profile_.record();
    return run_;
  }

 private:
  void* take(int64_t bytes, Category category, const std::string& name) {
    return memory_.allocate(bytes, category, name);
  }

  void* forward(int64_t bytes) {
    const MemoryScope forward("forward"), scope("lstm");
    void* const hidden = take(bytes, Category::activation, "lstm.h_l0");
    for (int i = 0; i < 2; ++i) {
      memory_.release(take(600, Category::workspace, "gemm partial sums"));
    }
    return hidden;
  }

  Allocator memory_{make_host_memory()};
  MemoryProfile profile_{memory_};
  ProfiledRun run_;
};

ProfiledRun some_run() {
  SmallRun run;
  for (const int64_t bytes : {2000, 3000, 2000}) run.step(bytes);
  return run.profiled();
}

ProfiledRun dense_run() {
  SmallRun run("embedding.weight.first", 4000);
  run.step(2000);
  return run.profiled();
}

ProfiledRun failed_run() {
  SmallRun run;
  run.step_out_of_memory();
  return run.profiled();
}

TEST_CASE("memory: the peak by category, layer and tensor") {
  const Summary summary = summarize(some_run());
  CHECK(summary.steps == 3);
  CHECK(summary.events == 4 + 3 * 14);
  const Peak& peak = summary.peak;
  CHECK(peak.stretch == "step");
  CHECK(peak.step == 2);
  CHECK(peak.scope == "backward/lstm.backward");
  const int64_t total = 4000 + 1000 + 500 + 1000 + 80 + 3000 + 700 + 30;
  CHECK(peak.live.categories.total == total);
  CHECK(peak.live.categories[Category::parameter] == 5000);
  CHECK(peak.live.categories[Category::workspace] == 730);
  CHECK(peak.live.categories[Category::index] == 0);
  CHECK(peak.reserved >= total);
  CHECK(summary.peak_reserved >= peak.reserved);

  REQUIRE(peak.live.layers.size() == 3);
  CHECK(peak.live.layers[0].layer == "lstm");
  CHECK(peak.live.layers[0].bytes.total == 1000 + 1000 + 3000 + 730);
  CHECK(peak.live.layers[0].bytes[Category::workspace] == 730);
  CHECK(peak.live.layers[1].layer == "embedding");
  CHECK(peak.live.layers[1].bytes.total == 4500);
  CHECK(peak.live.layers[2].layer == "(other)");
  CHECK(peak.live.layers[2].bytes.total == 80);

  REQUIRE(peak.live.tensors.size() == 7);
  CHECK(peak.live.tensors[0].name == "embedding.weight");
  CHECK(peak.live.tensors[1].name == "lstm.h_l0");
  CHECK(peak.live.tensors[4].name == "sums");
  CHECK(peak.live.tensors[4].layer == "lstm");
  CHECK(peak.live.tensors[4].bytes == 730);
  CHECK(peak.live.tensors[4].blocks == 2);
  REQUIRE(peak.live.blocks.size() == 8);
  CHECK(peak.live.blocks[1].scope == "forward/lstm");
}

TEST_CASE("memory: the layer of a block, by its name or its scope") {
  const ProfiledRun run = some_run();
  const LayerNames layers(run.record);
  CHECK(layers.layer_of("lstm.h_l0", "forward/dropout") == "lstm");
  CHECK(layers.layer_of("keys", "optimizer/step embedding.weight") == "embedding");
  CHECK(layers.layer_of("sums", "lstm") == "lstm");
  CHECK(layers.layer_of("sums", "lstm/dropout.backward") == "(other)");
  CHECK(layers.layer_of("train.losses", "") == "(other)");
  CHECK(layers.layer_of("", "") == "(other)");
}

TEST_CASE("memory: temporaries are what the stretch with the peak both takes and releases") {
  const std::vector<Temporaries> temporaries = summarize(some_run()).temporaries;
  REQUIRE(temporaries.size() == 4);
  CHECK(temporaries[0].op == "forward/lstm");
  CHECK(temporaries[0].peak_bytes == 3600);
  CHECK(temporaries[0].total_bytes == 3000 + 2 * 600);
  CHECK(temporaries[0].allocations == 3);
  CHECK(temporaries[1].op == "backward/lstm.backward");
  CHECK(temporaries[1].peak_bytes == 730);
  CHECK(temporaries[1].allocations == 2);
  CHECK(temporaries[2].op.empty());
  CHECK(temporaries[2].peak_bytes == 80);
  CHECK(temporaries[3].op == "optimizer/step embedding.weight");
  CHECK(temporaries[3].peak_bytes == 64);
}

TEST_CASE("memory: where memory ran out, what was live then") {
  const ProfiledRun run = failed_run();
  CHECK(live_after(run.record.recorded.back(), run.record.recorded.back().events.size()).size() ==
        4);
  const Summary summary = summarize(run);
  REQUIRE(summary.failure.has_value());
  CHECK(summary.failure->bytes == 900);
  CHECK(summary.failure->category == Category::gradient);
  CHECK(summary.failure->name == "lstm.grad_x_l0");
  CHECK(summary.failure->scope == "backward/lstm.backward");
  REQUIRE(summary.failure->live.has_value());
  CHECK(summary.failure->live->categories.total == 6500 + 2000);
  CHECK(summary.failure->live->blocks[1].name == "lstm.h_l0");
  // Not what the error released.
  REQUIRE(summary.temporaries.size() == 1);
  CHECK(summary.temporaries[0].peak_bytes == 600);
  CHECK(!summarize(some_run()).failure);
}

TEST_CASE("memory: what was live at a failure is unknown where its stretch was not recorded") {
  SmallRun small;
  for (int i = 0; i < 3; ++i) small.step(4000);
  small.step_out_of_memory();
  small.begin("scores");
  const Summary summary = summarize(small.profiled());
  REQUIRE(summary.failure.has_value());
  CHECK(!summary.failure->live);
  CHECK(report_text(summary, 10).find("what was live then is not in the profile") !=
        std::string::npos);
  CHECK(report_json(summary, 10)["failure"]["by_category"] == json::object());
}

TEST_CASE("memory: what the device holds beside the allocator, and what the state saves") {
  ProfiledRun run = some_run();
  const Summary on_cpu = summarize(run);
  CHECK(on_cpu.state == 1500);
  CHECK(on_cpu.dense_state == 5000);
  CHECK(!on_cpu.device_memory);
  run.device_memory = {{.free = 20000, .total = 90000}};
  run.reserved = 60000;
  const Summary summary = summarize(run);
  CHECK(summary.context == 10000);
  run.reserved = 80000;  // another program has given some back in between
  CHECK(summarize(run).context == 0);
  CHECK(report_text(summary, 1).find("19.53 KiB free of 87.89 KiB") != std::string::npos);
}

TEST_CASE("memory: a profile without events") {
  Allocator allocator(make_host_memory());
  const MemoryProfile profile(allocator);
  ProfiledRun run;
  run.record = profile.record();
  const Summary summary = summarize(run);
  CHECK(summary.peak.live.categories.total == 0);
  CHECK(summary.peak.live.blocks.empty());
  CHECK(summary.temporaries.empty());
  const std::string text = report_text(summary, 10);
  CHECK(text.find("outside all scopes") != std::string::npos);
  CHECK(text.find("no op had temporaries") != std::string::npos);
}

TEST_CASE("memory: the report for a terminal") {
  CHECK(report_text(summarize(some_run()), 3) == R"(run     lm train
device  cpu, measured
steps   3, 46 allocations and releases
peak    10.07 KiB (10310 bytes): step 2, in backward/lstm.backward

reserved at the peak  12.88 KiB, of which 2.81 KiB (21.8%) rounding and cached blocks
most reserved         12.88 KiB
optimizer state       1.46 KiB; 3.42 KiB (70.0%) saved against 4.88 KiB of dense state

at the peak
category             bytes   share
parameter         4.88 KiB   48.5%
gradient               0 B    0.0%
optimizer_state   1.46 KiB   14.5%
activation        2.93 KiB   29.1%
workspace            730 B    7.1%
data                  80 B    0.8%
index                  0 B    0.0%
total            10.07 KiB  100.0%

layer         bytes  share  parameter  optimizer_state  activation  workspace  data
lstm       5.60 KiB  55.6%     1000 B           1000 B    2.93 KiB      730 B     -
embedding  4.39 KiB  43.6%   3.91 KiB            500 B           -          -     -
(other)        80 B   0.8%          -                -           -          -  80 B

tensors, the largest 3 of 7
   bytes  share  blocks  category    layer      tensor
3.91 KiB  38.8%       1  parameter   embedding  embedding.weight
2.93 KiB  29.1%       1  activation  lstm       lstm.h_l0
  1000 B   9.7%       1  parameter   lstm       lstm.weight_ih_l0

blocks, the largest 3 of 8
   bytes  category    block              allocated in
3.91 KiB  parameter   embedding.weight   (none)
2.93 KiB  activation  lstm.h_l0          forward/lstm
  1000 B  parameter   lstm.weight_ih_l0  (none)

ops with temporaries, the largest 3 of 4
at one time  in total  allocations  allocated in
   3.52 KiB  4.10 KiB            3  forward/lstm
      730 B     730 B            2  backward/lstm.backward
       80 B      80 B            1  (none)
)");
}

TEST_CASE("memory: the report as JSON") {
  const Summary summary = summarize(failed_run());
  const json report = report_json(summary, 2);
  CHECK(report["format"] == "sketchgrad-memory-report");
  CHECK(report["version"] == 1);
  CHECK(report["arguments"] == json::array({"lm", "train"}));
  CHECK(report["peak"]["bytes"] == 6500 + 2000 + 600);
  CHECK(report["peak"]["by_category"].size() == kCategoryCount);
  CHECK(report["peak"]["by_layer"][0]["layer"] == "lstm");
  CHECK(report["peak"]["by_tensor"].size() == 6);
  CHECK(report["peak"]["by_tensor"][0] == json({{"name", "embedding.weight"},
                                                {"layer", "embedding"},
                                                {"category", "parameter"},
                                                {"bytes", 4000},
                                                {"blocks", 1}}));
  CHECK(report["largest"].size() == 2);
  CHECK(report["largest"][1]["scope"] == "forward/lstm");
  CHECK(report["cache"]["live"] == report["peak"]["bytes"]);
  CHECK(report["device_memory"].is_null());
  CHECK(report["optimizer_state"]["saved_bytes"] == 3500);
  CHECK(report["failure"]["bytes"] == 900);
  CHECK(report["failure"]["by_category"]["activation"] == 2000);
  CHECK(report["failure"]["largest"].size() == 2);
  REQUIRE(report["stretches"].size() == 2);
  CHECK(report["stretches"][0]["label"] == "setup");
  CHECK(report["stretches"][1]["bytes"] == 9100);
}

TEST_CASE("memory: what differs between two runs") {
  const Difference found = difference(summarize(dense_run()), summarize(some_run()));
  CHECK(found.peak.bytes() == 1000 - 3500);
  CHECK(found.state.bytes() == -3500);
  REQUIRE(found.categories.size() == kCategoryCount);
  CHECK(found.categories[0].category == Category::optimizer_state);
  CHECK(found.categories[1].category == Category::activation);
  CHECK(found.categories[2].change.bytes() == 0);
  REQUIRE(found.tensors.size() == 3);
  CHECK(found.tensors[0].name == "embedding.weight.first");
  CHECK(found.tensors[0].change.b == 0);
  CHECK(found.tensors[1].name == "lstm.h_l0");
  CHECK(found.tensors[1].change.bytes() == 1000);
  CHECK(found.tensors[2].name == "embedding.weight.first.cells");
  CHECK(found.tensors[2].change.a == 0);
  const json as_json = difference_json(found);
  CHECK(as_json["by_tensor"][0]["mark"] == "gone");
  CHECK(as_json["by_tensor"][1]["mark"] == "");
  CHECK(as_json["by_tensor"][2]["mark"] == "new");
  CHECK(difference_text(difference(summarize(some_run()), summarize(some_run())))
            .find("no tensor differs") != std::string::npos);
}

TEST_CASE("memory: peaks of their own of categories and layers") {
  const auto peaks = own_peaks(some_run().record);
  CHECK(peaks.at("total") == 10310);
  CHECK(peaks.at("index") == 64);
  CHECK(peaks.at("workspace") == 730);
  CHECK(peaks.at("gradient") == 0);
  CHECK(peaks.at("layer:lstm") == 5730);
  CHECK(peaks.at("layer:embedding") == 4564);
  CHECK(peaks.at("reserved") >= 10310);
  CHECK(parse_limit("--max", "layer:lstm=2KiB").name == "layer:lstm");
  CHECK(parse_limit("--max", "layer:lstm=2KiB").bytes == 2048);
}

// The program.

const std::string kProgram = std::string(SKETCHGRAD_BINARY_DIR) + "/tools/memory";

CommandResult call(const std::string& arguments) {
  return apps::run_command(kProgram + " " + arguments);
}

struct Profiles {
  TemporaryFolder folder;
  std::string dense = folder / "dense";
  std::string sketched = folder / "sketched";
  Profiles() {
    apps::write_memory_profile(dense, dense_run());
    apps::write_memory_profile(sketched, some_run());
  }
};

TEST_CASE("memory program: help and wrong flags") {
  CHECK(call("--help").output.find("report") != std::string::npos);
  const CommandResult report = call("report --help");
  CHECK(report.code == 0);
  for (const char* word : {"--json", "--top", "=10", "KiB"}) {
    CAPTURE(word);
    CHECK(report.output.find(word) != std::string::npos);
  }
  const Profiles profiles;
  for (const std::string& arguments :
       {std::string(), "report " + profiles.dense + " --nonsense",
        "report " + profiles.dense + " --top 0", std::string("report"), "diff " + profiles.dense,
        "check " + profiles.dense, "check " + profiles.dense + " --max total",
        "check " + profiles.dense + " --max total=much"}) {
    CAPTURE(arguments);
    const CommandResult result = call(arguments);
    CHECK(result.code == 2);
    CHECK(result.output.rfind("memory: error: ", 0) == 0);
  }
}

TEST_CASE("memory program: a folder without a profile, and a file cut short") {
  const Profiles profiles;
  const std::string file = apps::memory_profile_file(profiles.sketched);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  for (const std::string& arguments :
       {"report " + profiles.folder / "none", "report " + profiles.sketched,
        "diff " + profiles.dense + " " + profiles.sketched,
        "check --max total=1 " + profiles.sketched}) {
    CAPTURE(arguments);
    const CommandResult result = call(arguments);
    CHECK(result.code == 1);
    CHECK(result.output.rfind("memory: error: ", 0) == 0);
    CHECK(result.output.find("memory.json") != std::string::npos);
    CHECK(result.output.find("json.exception") == std::string::npos);
  }
}

TEST_CASE("memory program: the profile is not written over, nor one file twice") {
  const Profiles profiles;
  const std::string file = apps::memory_profile_file(profiles.sketched);
  const std::string content = apps::read_whole(file);
  const std::string page = profiles.folder / "page";
  for (const std::string& arguments : {"report --html " + file, "export --chrome " + file,
                                       "export --chrome " + page + " --pytorch " + page}) {
    CAPTURE(arguments);
    const CommandResult result = call(arguments + " " + profiles.sketched);
    CHECK(result.code == 2);
    CHECK(result.output.rfind("memory: error: --", 0) == 0);
  }
  CHECK(apps::read_whole(file) == content);
  CHECK_FALSE(std::filesystem::exists(page));
}

TEST_CASE("memory program: report and diff") {
  const Profiles profiles;
  const Summary dense = summarize(apps::read_memory_profile(profiles.dense));
  const Summary sketched = summarize(apps::read_memory_profile(profiles.sketched));
  const CommandResult report = call("report " + profiles.sketched);
  CHECK(report.code == 0);
  CHECK(report.output == report_text(sketched, 10));
  const std::string as_json = call("report --json --top 1 " + profiles.sketched).output;
  CHECK(json::parse(as_json) == report_json(sketched, 1));
  const std::string both = profiles.dense + " " + profiles.sketched;
  CHECK(call("diff " + both).output == difference_text(difference(dense, sketched)));
  CHECK(json::parse(call("diff --json " + both).output) ==
        difference_json(difference(dense, sketched)));
}

TEST_CASE("memory program: check tells by its exit code") {
  const Profiles profiles;
  const CommandResult held =
      call("check --max total=10310 " + profiles.sketched + " --max layer:lstm=6KB");
  CHECK(held.code == 0);
  CHECK(held.output.find("OVER") == std::string::npos);
  const CommandResult broken =
      call("check " + profiles.sketched + " --max total=10309 --max index=64");
  CHECK(broken.code == 3);
  CHECK(broken.output ==
        "    limit     actual  left        peak of\n"
        "10.07 KiB  10.07 KiB  -1 B  OVER  total\n"
        "     64 B       64 B   0 B        index\n");
  const CommandResult unknown = call("check " + profiles.sketched + " --max layer:gru=1KB");
  CHECK(unknown.code == 2);
  CHECK(unknown.output.find("layer:lstm") != std::string::npos);
}

struct Text {
  TemporaryFolder folder;
  std::string flags;  // of lm train
  Text() {
    const std::string text = folder.file("text", apps::generated_text(300, 200));
    flags = "lm train --train " + text + " --valid " + text + " --cache " + folder / "cache" +
            " --embedding-dim 24 --hidden 16 --batch 6 --bptt 5 --steps 3 ";
  }
};

TEST_CASE("memory program: a plan says what the run then does") {
  const Text text;
  const CommandResult planned = call("plan --json --budget 1GB --memory-profile " +
                                     text.folder / "plan -- " + text.flags + "2>/dev/null");
  REQUIRE(planned.code == 0);
  const json plan = json::parse(planned.output.substr(planned.output.find('{')));
  CHECK(plan["format"] == "sketchgrad-memory-plan");
  CHECK(plan["batch"] == 6);
  CHECK(plan["traced_steps"] == 3);
  CHECK(plan["fits"] == true);
  CHECK(plan["largest_batch"].get<int64_t>() > 6);
  const CommandResult run = apps::run_command(
      std::string(SKETCHGRAD_BINARY_DIR) + "/apps/" + text.flags + "--memory-profile " +
      text.folder / "run" + " --report " + text.folder / "report");
  REQUIRE(run.code == 0);
  const json report = json::parse(apps::read_whole(text.folder / "report"));
  CHECK(plan["at_peak_bytes"] == report["at_peak_bytes"]);
  CHECK(plan["peak_bytes"] == report["peak_bytes"]);
  CHECK(plan["peak_reserved_bytes"] == report["peak_reserved_bytes"]);
  const std::string both = text.folder / "plan " + text.folder / "run";
  const json difference = json::parse(call("diff --json " + both).output);
  CAPTURE(difference.dump());
  CHECK(call("diff " + both).output.find("  0 B  ") != std::string::npos);
  CHECK(call("report " + text.folder / "plan").output.find("planned") != std::string::npos);
}

TEST_CASE("memory program: plans that do not fit, and what is no plan") {
  const Text text;
  const CommandResult over = call("plan --budget 1KB -- " + text.flags);
  CHECK(over.code == 3);
  CHECK(over.output.find("DOES NOT FIT     1000 B given") != std::string::npos);
  CHECK(over.output.find("not even batches of 1 fit") != std::string::npos);
  const CommandResult limited =
      call("plan --no-largest-batch -- " + text.flags + "--memory-limit 1KB");
  CHECK(limited.code == 3);
  CHECK(limited.output.find("as the run is limited to") != std::string::npos);
  CHECK(limited.output.find("largest batch") == std::string::npos);
  const CommandResult other = call("plan --batch 3 --no-largest-batch -- " + text.flags);
  CHECK(other.code == 0);
  CHECK(other.output.find("with batches of 3") != std::string::npos);
  const std::string profile = text.folder / "profile";
  REQUIRE(
      call("plan --batch 3 --no-largest-batch --memory-profile " + profile + " -- " + text.flags)
          .code == 0);
  const std::vector<std::string> told = apps::read_memory_profile(profile).arguments;
  CHECK(std::vector<std::string>(told.end() - 2, told.end()) ==
        std::vector<std::string>{"--batch", "3"});
  const CommandResult on_cuda =
      call("plan --budget 1GB --no-largest-batch -- " + text.flags + "--device cuda");
  CHECK(on_cuda.code == 0);
  CHECK(on_cuda.output.find("traced as on the CPU") != std::string::npos);
  for (const auto& [arguments, message] :
       {std::pair<std::string, std::string>{"plan", "the run to plan is missing"},
        {"plan -- ls", "not of \"ls\""},
        {"plan -- lm eval", "only runs of"},
        {"plan --budgt 1GB -- " + text.flags, "--budgt"},
        {"plan --budget 1XB -- " + text.flags, "1XB is no number of bytes"}}) {
    CAPTURE(arguments);
    const CommandResult wrong = call(arguments);
    CHECK(wrong.code == 2);
    CAPTURE(wrong.output);
    CHECK(wrong.output.find(message) != std::string::npos);
  }
  CHECK(call("plan -- lm train --train /none --valid /none").code == 1);
  CHECK(call("plan -- lm train --help").output.find("--moment1") != std::string::npos);
}

}  // namespace
}  // namespace sketchgrad::memory
