#pragma once

#include <cstdint>

#include "sketchgrad/kernels/philox.h"

namespace sketchgrad::apps::xc {

// A random order of [0, classes), each position computed by itself: different classes without a
// memory of those that were taken. A Feistel network over pairs of numbers below a and b, a b >=
// classes, that is walked on while it leaves the range (Black, Rogaway: "Ciphers with Arbitrary
// Finite Domains", CT-RSA 2002, method 3). Its round functions are Philox of the key.
class ClassPermutation {
 public:
  // classes >= 1.
  ClassPermutation(int64_t classes, kernels::PhiloxKey key);

  // position in [0, classes).
  int32_t at(int64_t position) const;

 private:
  uint64_t step(uint64_t value) const;

  uint64_t classes_;
  kernels::PhiloxKey key_;
  uint64_t a_;  // about the root of the classes
  uint64_t b_;
};

}  // namespace sketchgrad::apps::xc
