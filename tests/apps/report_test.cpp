#include "sketchgrad/apps/common/report.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>

#include "sketchgrad/apps/common/metrics_log.h"
#include "sketchgrad/apps/common/progress.h"
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
  CHECK_THROWS_AS(check_writable(folder / "missing/r.json"), IoError);
  check_writable(folder / "s.json");
  CHECK_FALSE(std::filesystem::exists(folder / "s.json"));
  std::filesystem::create_directory(folder / "taken");
  CHECK_THROWS_AS(check_writable(folder / "taken"), IoError);
  CHECK_THROWS_AS(write_json(folder / "taken", {}), IoError);
  CHECK_THROWS_AS(check_writable("/dev/null"), IoError);
}

TEST_CASE("metrics: one object a line, appended to on resume") {
  const TemporaryFolder folder;
  MetricsLog(folder / "m", /*append=*/false).write({{"step", 1}});
  MetricsLog log(folder / "m", /*append=*/true);
  log.write({{"step", 2}, {"loss", std::nan("")}});
  CHECK(read_whole(folder / "m") == "{\"step\":1}\n{\"loss\":null,\"step\":2}\n");
  CHECK_THROWS_AS(MetricsLog(folder / "missing/m", false), IoError);
  MetricsLog().write({{"step", 3}});
}

TEST_CASE("metrics: half a line is not gone on with") {
  const TemporaryFolder folder;
  const std::string path = folder.file("m", "{\"step\":1}\n{\"st");
  MetricsLog(path, /*append=*/true).write({{"step", 2}});
  CHECK(read_whole(path) == "{\"step\":1}\n{\"st\n{\"step\":2}\n");
  MetricsLog(folder.file("empty", ""), /*append=*/true).write({{"step", 2}});
  CHECK(read_whole(folder / "empty") == "{\"step\":2}\n");
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

}  // namespace
}  // namespace sketchgrad::apps
