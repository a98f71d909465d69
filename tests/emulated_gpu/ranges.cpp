// The emulated GPU's ranges for profilers are kept, so that a test can look at them.
#include "sketchgrad/kernels/ranges.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "sketchgrad/framework/ops.h"
#include "sketchgrad/tests/support/test_device.h"

namespace sketchgrad {

namespace {

std::vector<std::string>& open_ranges() {
  static thread_local std::vector<std::string> ranges;
  return ranges;
}

// Every range with those around it, "forward/multiply".
std::vector<std::string>& begun_ranges() {
  static thread_local std::vector<std::string> ranges;
  return ranges;
}

}  // namespace

namespace kernels::cuda {

void push_range(const char* name) noexcept {
  open_ranges().emplace_back(name);
  std::string path;
  for (const std::string& range : open_ranges()) path += (path.empty() ? "" : "/") + range;
  begun_ranges().push_back(path);
}

void pop_range() noexcept { open_ranges().pop_back(); }

}  // namespace kernels::cuda

namespace {

TEST_CASE("ranges: profilers see phases, layers and ops under the names of the memory's scopes") {
  Parameter x("x", {2}, test::kTestDevice);
  begun_ranges().clear();
  {
    const MemoryScope scope("step");
    Tape tape;
    tape.backward(sum(tape, multiply(tape, tape.leaf(x), tape.leaf(x))));
  }
  CHECK(open_ranges().empty());
  const std::vector<std::string> wanted = {"step", "step/multiply", "step/sum", "step/sum.backward",
                                           "step/multiply.backward"};
  CHECK(begun_ranges() == wanted);
}

}  // namespace
}  // namespace sketchgrad
