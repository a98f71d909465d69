#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <utility>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/views.h"

// What the checked entries of this folder share. `op` and `name` are those of the public header;
// every failure throws InvalidArgument with a message that begins with [op].
namespace sketchgrad::kernels {

template <class... Args>
[[noreturn]] void refuse(const char* op, fmt::format_string<Args...> format, Args&&... args) {
  throw InvalidArgument(
      fmt::format("[{}] {}", op, fmt::format(format, std::forward<Args>(args)...)));
}

inline void check_count(const char* op, const char* name, int64_t count) {
  if (count < 0) refuse(op, "{} is {}, it must not be negative", name, count);
}

// `pointer` may be null only where nothing is read or written through it.
inline void check_array(const char* op, const char* name, const void* pointer, int64_t count) {
  if (count > 0 && pointer == nullptr) {
    refuse(op, "{} is null, it must hold {} elements", name, count);
  }
}

inline void check_matrix(const char* op, const char* name, ConstMatrix m) {
  if (m.rows < 0 || m.cols < 0) {
    refuse(op, "{} has shape [{}, {}], sizes must not be negative", name, m.rows, m.cols);
  }
  if (m.rows > 1 && m.stride < m.cols) {
    refuse(op, "{} has a stride of {}, it must be at least its {} columns", name, m.stride, m.cols);
  }
  if (m.rows > 0 && m.cols > 0 && m.data == nullptr) {
    refuse(op, "{} is null, it must hold [{}, {}]", name, m.rows, m.cols);
  }
}

inline void check_same_cols(const char* op, const char* name_a, ConstMatrix a, const char* name_b,
                            ConstMatrix b) {
  if (a.cols == b.cols) return;
  refuse(op, "{} [{}, {}] and {} [{}, {}] must have the same number of columns", name_a, a.rows,
         a.cols, name_b, b.rows, b.cols);
}

}  // namespace sketchgrad::kernels
