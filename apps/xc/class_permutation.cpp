#include "sketchgrad/apps/xc/class_permutation.h"

#include <cmath>

namespace sketchgrad::apps::xc {

namespace {

// Four make a network pseudorandom as long as its halves are large; the rest is for small ones.
constexpr uint64_t kRounds = 8;

}  // namespace

ClassPermutation::ClassPermutation(int64_t classes, kernels::PhiloxKey key)
    : classes_(static_cast<uint64_t>(classes)),
      key_(key),
      a_(static_cast<uint64_t>(std::ceil(std::sqrt(static_cast<double>(classes))))),
      b_((classes_ + a_ - 1) / a_) {}

uint64_t ClassPermutation::step(uint64_t value) const {
  uint64_t left = value % a_, right = value / a_;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t modulus = round % 2 == 0 ? a_ : b_;
    const uint32_t bits = kernels::philox(key_.seed, key_.offset, round << 32 | right).v[0];
    const uint64_t moved = (left + ((bits * modulus) >> 32)) % modulus;
    left = right;
    right = moved;
  }
  return left + a_ * right;
}

int32_t ClassPermutation::at(int64_t position) const {
  uint64_t value = static_cast<uint64_t>(position);
  do {
    value = step(value);
  } while (value >= classes_);
  return static_cast<int32_t>(value);
}

}  // namespace sketchgrad::apps::xc
