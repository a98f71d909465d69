#pragma once

#include <fmt/format.h>

#include <utility>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad {

// Throws InvalidArgument with the formatted message unless `condition` holds. Messages begin with
// the operation in brackets: check(rows > 0, "[embedding] a table of {} rows", rows).
template <class... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw InvalidArgument(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace sketchgrad
