#pragma once

#include <cstdint>

#include "sketchgrad/kernels/philox.h"

namespace sketchgrad::apps {

// A random order of 0 ... count - 1 that takes no memory and can be entered anywhere: a Feistel
// network over the next power of four, whose values beyond count are passed on until
// they fall below it (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
class Shuffle {
 public:
  // `key` must be a draw of its own. Throws InvalidArgument for a count below 1.
  Shuffle(int64_t count, kernels::PhiloxKey key);
  // What stands at place i of the order, i in [0, count).
  int64_t operator()(int64_t i) const;

 private:
  uint64_t permute(uint64_t value) const;

  uint64_t count_;
  int half_bits_ = 1;
  kernels::PhiloxKey key_;
};

}  // namespace sketchgrad::apps
