#pragma once

#include <algorithm>
#include <cstdint>

namespace sketchgrad::kernels {

// Loops over scattered rows ask for the row that comes this many iterations later: enough to hide a
// TLB miss and a read from memory.
inline constexpr int64_t kPrefetchRows = 8;

// Asks for `cols` floats; of long rows only the beginning, the hardware's prefetcher finds the
// rest.
inline void prefetch_floats(const float* row, int64_t cols) {
  constexpr int64_t kFloatsPerLine = 16;
  constexpr int64_t kMaxFloats = 16 * kFloatsPerLine;
  const int64_t end = std::min(cols, kMaxFloats);
  // GCC 12 takes a function that only prefetches for one without effect, and drops calls of it.
  asm volatile("");
  for (int64_t c = 0; c < end; c += kFloatsPerLine) __builtin_prefetch(row + c);
  __builtin_prefetch(row + end - 1);  // a row need not begin with a line
}

}  // namespace sketchgrad::kernels
