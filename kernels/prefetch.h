#pragma once

#include <algorithm>
#include <cstdint>

namespace sketchgrad::kernels {

// Loops over scattered rows ask for a row some iterations ahead; where they read several arrays,
// piece by piece in the pace of the arithmetic, since the rows of all at once would fill the queue
// of outstanding reads and leave it idle afterwards.
inline constexpr int64_t kPrefetchColumns = 64;

// How many rows ahead a loop asks that reads `streams` arrays: enough to hide a read from memory,
// and few enough that the first-level cache keeps what was asked for.
inline int64_t prefetch_rows(int64_t cols, int64_t streams) {
  constexpr int64_t kFloatsAhead = 2048;
  return std::clamp<int64_t>(kFloatsAhead / std::max<int64_t>(cols * streams, 1), 2, 32);
}

// Asks for `count` elements; of long pieces only the beginning, the hardware's prefetcher finds the
// rest.
template <class T>
void prefetch_elements(const T* row, int64_t count) {
  constexpr uintptr_t kLine = 64;
  constexpr uintptr_t kMaxBytes = 1024;
  const auto begin = reinterpret_cast<uintptr_t>(row);
  const uintptr_t end = begin + std::min(sizeof(T) * static_cast<uintptr_t>(count), kMaxBytes);
  // GCC 12 takes a function that only prefetches for one without effect, and drops calls of it.
  asm volatile("");
  for (uintptr_t line = begin & ~(kLine - 1); line < end; line += kLine) {
    __builtin_prefetch(reinterpret_cast<const void*>(line));
  }
}

inline void prefetch_floats(const float* row, int64_t cols) { prefetch_elements(row, cols); }

}  // namespace sketchgrad::kernels
