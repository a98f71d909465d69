#include "sketchgrad/apps/common/output_paths.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

TEST_CASE("output paths: one that is an input or another output is refused") {
  const TemporaryFolder folder;
  const std::string text = folder.file("text", "a\n");
  const std::string link = folder / "link";
  std::filesystem::create_symlink(text, link);
  std::filesystem::create_directory(folder / "sub");
  for (const std::string& path : {text, link, folder / "sub/../text"}) {
    CAPTURE(path);
    CHECK_THROWS_WITH_AS(check_outputs({{"--report", path}}, {{"--train", text}}),
                         doctest::Contains(("--report: " + path + " is an input").c_str()),
                         InvalidArgument);
  }
  // Neither of them is there yet.
  CHECK_THROWS_WITH_AS(
      check_outputs({{"--report", folder / "r"}, {"--metrics", folder / "sub/../r"}}, {}),
      doctest::Contains("written by --report as well"), InvalidArgument);
  check_outputs({{"--report", folder / "r"}, {"--metrics", folder / "m"}, {"--html", ""}},
                {{"--train", text}, {"--test", ""}});
}

TEST_CASE("output paths: a pipe may be read and written") {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  check_outputs({{"--metrics", pipe}}, {{"--valid", pipe}});
}

}  // namespace
}  // namespace sketchgrad::apps
