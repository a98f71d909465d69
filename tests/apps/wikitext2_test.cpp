#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "sketchgrad/apps/common/corpus.h"

namespace sketchgrad::apps {
namespace {

TEST_CASE("WikiText-2: tokens and vocabulary as usual") {
  const char* chosen = std::getenv("SKETCHGRAD_DATA");
  const std::string folder =
      (chosen != nullptr ? std::string(chosen) : std::string(SKETCHGRAD_DATA_DIR)) + "/wikitext-2/";
  if (!std::filesystem::exists(folder + "train.txt.xz")) {
    MESSAGE("SKIPPED: there is no " << folder << "train.txt.xz; set SKETCHGRAD_DATA");
    return;
  }
  const TrainingText train = read_training_text({folder + "train.txt.xz"}, {});
  CHECK(train.ids.size() == 2'088'628);
  CHECK(train.vocabulary.size() == 33'278);
  CHECK(read_text(folder + "valid.txt.xz", train.vocabulary).size() == 217'646);
  CHECK(read_text(folder + "test.txt.xz", train.vocabulary).size() == 245'569);
  CHECK(train.vocabulary.word(0) == "the");
}

}  // namespace
}  // namespace sketchgrad::apps
