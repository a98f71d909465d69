#pragma once

#include <cstdint>

namespace sketchgrad {

// While one lives, what this process does on the CPU takes the memory that it would take and
// computes no numbers: ops allocate their outputs and workspaces, but their loops over numbers are
// left out, and tensors are neither filled nor copied. What says where things are, and so how large
// the next array is (ids, groups, buckets), is computed. LSH softmaxes find as many rows as they
// take at most, and in other steps fewer. Memory that nobody writes to is not backed by pages: a
// model may be traced that is larger than the machine.
//
// So the allocator's figures are those of the same code in earnest, to the byte where sizes depend
// on nothing else. Numbers that are read are 0: the loss, norms, scores. Tensors from before keep
// what they hold. One at a time, begun and ended between steps. CUDA is not traced.
class MemoryTrace {
 public:
  // Cached memory goes back to the system, and the allocator's limit is suspended.
  MemoryTrace();
  ~MemoryTrace();
  MemoryTrace(const MemoryTrace&) = delete;
  MemoryTrace& operator=(const MemoryTrace&) = delete;

  static bool active();

 private:
  int64_t limit_;
};

}  // namespace sketchgrad
