#include "sketchgrad/optim/memory_spec.h"

#include <doctest/doctest.h>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::test {
namespace {

TEST_CASE("memories are read and written") {
  for (const char* text : {"dense",
                           "none",
                           "rowwise",
                           "rank1",
                           "rank1:l2",
                           "sm3",
                           "sm3:1",
                           "bf16",
                           "int8",
                           "sketch:0.2",
                           "sketch:0.01,depth=1",
                           "sketch:0.2,width=16",
                           "sketch:0.2,depth=2,width=16,reading=own_delta",
                           "sketch:0.5,reading=requery,clean=0.5/125",
                           "sketch:0.2,clean=0/10",
                           "banded:0.1",
                           "banded:0.1,depth=2,reading=mean_delta",
                           "hybrid:0.1",
                           "hybrid:0.1,exact=0.25",
                           "sketch:0.2,cells=bf16",
                           "banded:0.1,exact=0.5"}) {
    CAPTURE(text);
    CHECK(to_string(parse_memory(text, MomentRole::second)) == text);
  }
  CHECK(to_string(parse_memory("sm3:2", MomentRole::second)) == "sm3");
  CHECK(to_string(parse_memory("sketch:0.2,exact=0.5", MomentRole::second)) == "hybrid:0.2");
  CHECK(to_string(parse_memory("sketch:.2", MomentRole::first)) == "sketch:0.2");
  CHECK(std::holds_alternative<CountSketch>(parse_memory("sketch:0.2", MomentRole::first)));
  CHECK(std::holds_alternative<CountMin>(parse_memory("sketch:0.2", MomentRole::second)));
}

TEST_CASE("what cannot be read names the part") {
  const auto fails = [](const char* text, const char* part) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(parse_memory(text, MomentRole::second), doctest::Contains(part),
                         InvalidArgument);
  };
  fails("", "''");
  fails("dens", "'dens'");
  fails("sm3:3", "'sm3:3'");
  fails("rank1:l1", "'rank1:l1'");
  fails("int4", "'int4'");
  fails("sketch", "'sketch'");
  fails("banded", "'banded'");
  fails("band:0.1", "'band:0.1'");
  fails("banded:2", "ratio 2");
  fails("sketch:0.1,cells=8", "'cells=8'");
  fails("hybrid", "'hybrid'");
  fails("hybrid:0.1,exact=1", "exact 1");
  fails("sketch:", "''");
  fails("sketch:0", "ratio 0");
  fails("sketch:1.5", "ratio 1.5");
  fails("sketch:0.2x", "'0.2x'");
  fails("sketch:nan", "ratio nan");
  fails("sketch:0.2,depth=0", "depth 0");
  fails("sketch:0.2,depth=9", "depth 9");
  fails("sketch:0.2,width=0", "width 0");
  fails("sketch:0.2,depth", "''");
  fails("sketch:0.2,reading=best", "'best'");
  fails("sketch:0.2,clean=2/3", "clean=2/3");
  fails("sketch:0.2,clean=0.5", "clean=0.5");
  fails("sketch:0.2,colour=red", "'colour=red'");
  CHECK_THROWS_AS(parse_memory("sketch:0.2,clean=0.5/10", MomentRole::first), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::test
