#pragma once

#include <algorithm>
#include <cstdint>

#include "sketchgrad/kernels/prefetch.h"
#if !defined(__CUDACC__)
#include "sketchgrad/kernels/tbb_policy.h"
#endif

namespace sketchgrad::kernels {

// Loop policies. *_impl.h is templated on one of them; SerialPolicy is the oracle in tests,
// TbbPolicy (tbb_policy.h) the CPU backend, and cuda_policy.cuh holds the CUDA one. Results do not
// depend on the number of threads: all split work by shape alone, or (for_each_span) in blocks that
// come out the same in whatever span they are.

struct SerialPolicy {
  template <class Body>  // body(block)
  static void for_each_block(int64_t blocks, const Body& body) {
    for (int64_t b = 0; b < blocks; ++b) body(b);
  }
  // body(first, last) for spans of neighbouring blocks, about one a thread: for bodies that gain
  // from wide spans and whose blocks come out the same in whatever span they are.
  template <class Body>
  static void for_each_span(int64_t blocks, const Body& body) {
    if (blocks > 0) body(int64_t{0}, blocks);
  }
};

// Elements of work that are worth one task.
inline constexpr int64_t kBlockElements = 16384;

// body(begin, end) over [0, count) in ranges of `grain` (the last one may be shorter).
template <class Policy, class Body>
void for_each_range(const Policy&, int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  Policy::for_each_block((count + grain - 1) / grain,
                         [&](int64_t b) { body(b * grain, std::min(count, (b + 1) * grain)); });
}

// f(i) for i in [0, count): independent elements, vectorised by the compiler. f is a functor that
// holds its pointers and scalars by value: through a reference the compiler would have to load them
// again for every element.
template <class Policy, class F>
void for_each(const Policy& policy, int64_t count, const F& f) {
  for_each_range(policy, count, kBlockElements, [&](int64_t begin, int64_t end) {
    const F local = f;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) local(i);
  });
}

// Columns [first, last) of one row; vectorised by the compiler.
template <class Column>
void for_each_column(const Column& column, int64_t first, int64_t last) {
#pragma omp simd
  for (int64_t c = first; c < last; ++c) column(c);
}

// f(r) returns a functor of the column; what depends on the row alone is computed once a row on the
// CPU. Elements are independent. An f with skip(r) leaves rows out. A row of more than a block's
// elements is cut into pieces. An f that reads scattered rows may have a prefetch(r, first, last),
// called a few rows ahead, and kStreams, the number of arrays that it asks for.
template <class Policy, class F>
void for_each_row(const Policy& policy, int64_t rows, int64_t cols, const F& f) {
  if (cols <= 0) return;
  const int64_t pieces = (cols + kBlockElements - 1) / kBlockElements;
  for_each_range(policy, rows * pieces, kBlockElements / cols, [&](int64_t begin, int64_t end) {
    const F local = f;
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t r = piece / pieces;
      if constexpr (requires { local.skip(r); }) {
        if (local.skip(r)) continue;
      }
      const auto column = local(r);
      const int64_t first = piece % pieces * kBlockElements;
      const int64_t last = std::min(cols, first + kBlockElements);
      if constexpr (requires { local.prefetch(r, first, last); }) {
        const int64_t ahead = r + prefetch_rows(cols, F::kStreams);
        if (pieces == 1 && ahead < end) {
          const int64_t step = F::kStreams == 1 ? cols : kPrefetchColumns;
          for (int64_t from = 0; from < cols; from += step) {
            const int64_t to = std::min(cols, from + step);
            local.prefetch(ahead, from, to);
            for_each_column(column, from, to);
          }
          continue;
        }
      }
      for_each_column(column, first, last);
    }
  });
}

}  // namespace sketchgrad::kernels
