#include "sketchgrad/apps/common/out_of_memory.h"

#include <fmt/format.h>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

void throw_out_of_memory(const std::string& action) {
  throw OutOfMemory(
      fmt::format("{}: the system has no memory left\n{}", action, allocator().report()),
      /*requested_bytes=*/0);
}

}  // namespace sketchgrad::apps
