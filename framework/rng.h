#pragma once

#include "sketchgrad/kernels/philox.h"

namespace sketchgrad {

// Source of draw identities. Its whole state is (seed, offset), which checkpoints store.
class Rng {
 public:
  explicit Rng(uint64_t seed = 0, uint64_t offset = 0) : seed_(seed), offset_(offset) {}
  // The key of a new, independent draw.
  kernels::PhiloxKey next() { return {seed_, offset_++}; }
  uint64_t seed() const { return seed_; }
  uint64_t offset() const { return offset_; }

 private:
  uint64_t seed_;
  uint64_t offset_;
};

}  // namespace sketchgrad
