#include "sketchgrad/optim/schedule.h"

#include <doctest/doctest.h>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::test {
namespace {

TEST_CASE("schedules by hand") {
  CHECK(constant_schedule()->factor(1000) == 1.0);
  const auto linear = parse_schedule("linear", 100);
  CHECK(linear->factor(0) == 1.0);
  CHECK(linear->factor(25) == doctest::Approx(0.75));
  CHECK(linear->factor(100) == 0.0);
  CHECK(linear->factor(101) == 0.0);
  const auto cosine = parse_schedule("cosine:10", 110);
  CHECK(cosine->factor(0) == doctest::Approx(0.1));
  CHECK(cosine->factor(9) == doctest::Approx(1.0));
  CHECK(cosine->factor(10) == doctest::Approx(1.0));
  CHECK(cosine->factor(60) == doctest::Approx(0.5));
  CHECK(cosine->factor(110) == doctest::Approx(0.0));
}

TEST_CASE("plateau lowers the rate when the loss stops falling, and resumes") {
  const auto plateau = parse_schedule("plateau:0.5,2", 1);
  for (const double loss : {3.0, 2.0, 2.5, 2.0}) plateau->observe(loss);
  CHECK(plateau->factor(0) == 0.5);
  plateau->observe(2.1);
  StateDict state;
  plateau->save(state);
  const auto resumed = parse_schedule("plateau:0.5,2", 1);
  resumed->load(state);
  resumed->observe(2.2);
  CHECK(resumed->factor(0) == 0.25);
}

TEST_CASE("schedules that cannot be") {
  for (const char* text : {"", "cubic", "linear:3", "cosine:x", "cosine:200", "plateau:2",
                           "plateau:0.5,0", "plateau:0.5,2,3", "cosine:", "cosine:nan",
                           "cosine:1e30", "cosine:0.5", "plateau:0.5,1.5"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_schedule(text, 100), InvalidArgument);
  }
}

}  // namespace
}  // namespace sketchgrad::test
