#include "sketchgrad/apps/common/report.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iterator>

#include "sketchgrad/apps/common/checkpoint_folder.h"
#include "sketchgrad/apps/common/metrics_log.h"
#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/progress.h"
#include "sketchgrad/apps/common/training_run.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

TEST_CASE("report: is written whole, or not at all") {
  const TemporaryFolder folder;
  write_json(folder / "r.json", {{"a", 1}});
  write_json(folder / "r.json", {{"a", 2}});
  CHECK(nlohmann::json::parse(read_whole(folder / "r.json"))["a"] == 2);
  CHECK_THROWS_AS(write_json(folder / "missing/r.json", {}), IoError);
  CHECK_THROWS_AS(check_replaceable("report", folder / "missing/r.json"), IoError);
  check_replaceable("report", folder / "s.json");
  CHECK_FALSE(std::filesystem::exists(folder / "s.json"));
  std::filesystem::create_directory(folder / "taken");
  CHECK_THROWS_AS(check_replaceable("report", folder / "taken"), IoError);
  CHECK_THROWS_WITH_AS(write_json(folder / "taken", {}), doctest::Contains("[report]"), IoError);
  CHECK_THROWS_AS(check_replaceable("report", "/dev/null"), IoError);
  // Nothing is left beside the two.
  const std::filesystem::directory_iterator files(folder / "");
  CHECK(std::distance(begin(files), end(files)) == 2);
}

TEST_CASE("report and metrics: a path need not be UTF-8") {
  const TemporaryFolder folder;
  const nlohmann::json entry = {{"train", "caf\xe9.txt"}};
  write_json(folder / "r.json", entry);
  CHECK(nlohmann::json::parse(read_whole(folder / "r.json"))["train"] == "caf\xef\xbf\xbd.txt");
  MetricsLog(folder / "m").write(entry);
  CHECK(read_whole(folder / "m") == "{\"train\":\"caf\xef\xbf\xbd.txt\"}\n");
}

TEST_CASE("checkpoint folder: one that takes no files is refused when it is opened") {
  const TemporaryFolder folder;
  const CheckpointFolder good(folder / "a/b");
  CHECK(std::filesystem::is_empty(folder / "a/b"));
  // Not writable for root either.
  CHECK_THROWS_WITH_AS(CheckpointFolder("/proc"), doctest::Contains("/proc/latest.safetensors"),
                       IoError);
  std::filesystem::create_directories(folder / "c/best.safetensors");
  CHECK_THROWS_WITH_AS(CheckpointFolder(folder / "c"), doctest::Contains("c/best.safetensors"),
                       IoError);
}

TEST_CASE("results: a report or a profile that cannot be written does not cost the other") {
  const TemporaryFolder folder;
  const nlohmann::json report = {{"steps", 3}};
  RunOptions run;
  run.report = folder / "report.json";
  run.memory_profile = folder / "profile";
  {
    MemoryWatch watch(run, kCpu);
    folder.file("profile", "");
    CHECK_THROWS_WITH_AS(write_results(run, report, watch), doctest::Contains("memory profile"),
                         IoError);
    CHECK(nlohmann::json::parse(read_whole(run.report)) == report);
    // It would be told again by the destructor.
    CHECK(watch.profile() == nullptr);
  }
  std::filesystem::remove(run.report);
  std::filesystem::create_directory(run.report);
  run.memory_profile = folder / "other";
  MemoryWatch watch(run, kCpu);
  CHECK_THROWS_WITH_AS(write_results(run, report, watch), doctest::Contains("report.json"),
                       IoError);
  CHECK(std::filesystem::exists(folder / "other/memory.json"));
}

TEST_CASE("metrics: one object a line, appended to on resume") {
  const TemporaryFolder folder;
  MetricsLog(folder / "m").write({{"step", 1}});
  MetricsLog log(folder / "m", /*step=*/1);
  log.write({{"step", 2}, {"loss", std::nan("")}});
  CHECK(read_whole(folder / "m") == "{\"step\":1}\n{\"loss\":null,\"step\":2}\n");
  CHECK_THROWS_AS(MetricsLog(folder / "missing/m"), IoError);
  CHECK_THROWS_AS(MetricsLog(folder / "missing/m", 1), IoError);
  MetricsLog().write({{"step", 3}});
}

TEST_CASE("metrics: what a resumed run does again is taken away, and nothing else") {
  const TemporaryFolder folder;
  const auto after = [&](const std::string& before, int64_t step) {
    const std::string path = folder.file("m", before);
    const MetricsLog log(path, step);
    return read_whole(path);
  };
  const std::string three = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n";
  CHECK(after(three, 3) == three);
  CHECK(after(three, 2) == "{\"step\":1}\n{\"step\":2}\n");
  CHECK(after(three, 0) == "");
  CHECK(after("", 2) == "");
  // What an earlier version left there twice.
  CHECK(after("{\"step\":1}\n{\"step\":9}\n{\"step\":2}\n", 2) == "{\"step\":1}\n{\"step\":2}\n");
  // Half lines, and lines that are no entries.
  CHECK(after("{\"step\":1}\n{\"st", 2) == "{\"step\":1}\n");
  CHECK(after("{\"step\":1}", 2) == "{\"step\":1}\n");
  CHECK(after("# mine\n[]\n{\"step\":\"x\"}\n{\"step\":3}\n", 2) ==
        "# mine\n[]\n{\"step\":\"x\"}\n");

  const std::string file = folder.file("file", three);
  std::filesystem::create_symlink(file, folder / "link");
  MetricsLog(folder / "link", 2).write({{"step", 3}});
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_whole(file) == three);
  // No file to look into.
  MetricsLog("/dev/null", 2).write({{"step", 3}});
}

TEST_CASE("metrics: the check leaves everything as it is") {
  const TemporaryFolder folder;
  check_metrics_path(folder.file("m", "old\n"));
  CHECK(read_whole(folder / "m") == "old\n");
  check_metrics_path(folder / "new");
  CHECK_FALSE(std::filesystem::exists(folder / "new"));
  CHECK_THROWS_AS(check_metrics_path(folder / "missing/m"), IoError);
  std::filesystem::create_directory(folder / "taken");
  CHECK_THROWS_AS(check_metrics_path(folder / "taken"), IoError);
}

TEST_CASE("memory: figures and table hold every category") {
  MemoryFigures figures;
  figures.bytes[static_cast<size_t>(Category::gradient)] = 2048;
  figures.total = 4096;
  const nlohmann::json json = to_json(figures);
  for (const char* name : {"parameter", "gradient", "optimizer_state", "activation", "workspace",
                           "data", "index", "total"}) {
    CHECK(json.contains(name));
  }
  CHECK(json["gradient"] == 2048);
  CHECK(json["total"] == 4096);
  const std::string table = format_memory_table(figures, figures);
  CHECK(table.find("optimizer_state") != std::string::npos);
  CHECK(table.find("4.00 KiB") != std::string::npos);
  CHECK(peak_resident_bytes() > 0);
}

TEST_CASE("progress: lines where there is no terminal") {
  CHECK(format_seconds(5) == "0:05");
  CHECK(format_seconds(3723) == "1:02:03");
  CHECK(format_seconds(INFINITY) == "-:--");
  const TemporaryFolder folder;
  std::FILE* file = std::fopen((folder / "p").c_str(), "w");
  {
    Progress progress("train", 4, file, /*quiet_seconds=*/0);
    progress.update(1, "loss 3");
    progress.say("done");
    Progress rare("train", 4, file, /*quiet_seconds=*/1000);
    rare.update(2, "loss 2");
  }
  std::fclose(file);
  CHECK(read_whole(folder / "p") == "train 1/4 loss 3\ndone\n");
}

TEST_CASE("progress: the bar gives way to the figures") {
  const std::string text = "epoch 1 ppl 293.43 3860/s 178.73 MiB left 20:14";
  CHECK(progress_line("train", 4476, 8952, text, 78) == "train [######......] 4476/8952 " + text);
  CHECK(progress_line("train", 4476, 8952, text, 200) ==
        "train [############............] 4476/8952 " + text);
  CHECK(progress_line("train", 4476, 8952, text, 70) == "train 4476/8952 " + text);
  CHECK(progress_line("train", 4476, 8952, text, 7) == "train 4");
  CHECK(progress_line("train", 0, 0, "", 79) == "train [........................] 0 ");
}

TEST_CASE("progress: a stream that cannot be written is no error") {
  std::FILE* full = std::fopen("/dev/full", "w");
  REQUIRE(full != nullptr);
  std::setvbuf(full, nullptr, _IONBF, 0);
  Progress progress("train", 4, full, /*quiet_seconds=*/0);
  CHECK_NOTHROW(progress.update(1, "loss 3"));
  CHECK_NOTHROW(progress.say("done"));
  CHECK(std::ferror(full) != 0);
  std::fclose(full);
}

}  // namespace
}  // namespace sketchgrad::apps
