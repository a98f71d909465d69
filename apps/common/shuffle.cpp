#include "sketchgrad/apps/common/shuffle.h"

#include <utility>

#include "sketchgrad/framework/check.h"

namespace sketchgrad::apps {

namespace {
// Four make a network pseudorandom as long as its halves are large; the rest is for small ones.
constexpr uint64_t kRounds = 8;
}  // namespace

Shuffle::Shuffle(int64_t count, kernels::PhiloxKey key)
    : count_(static_cast<uint64_t>(count)), key_(key) {
  check(count >= 1, "[shuffle] {} elements, there must be at least 1", count);
  while (half_bits_ < 31 && (uint64_t{1} << (2 * half_bits_)) < count_) ++half_bits_;
}

int64_t Shuffle::operator()(int64_t i) const {
  auto value = static_cast<uint64_t>(i);
  do value = permute(value);
  while (value >= count_);
  return static_cast<int64_t>(value);
}

uint64_t Shuffle::permute(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t word = kernels::philox(key_.seed, key_.offset, round << 32 | right).v[0];
    left = std::exchange(right, left ^ (word & mask));
  }
  return left << half_bits_ | right;
}

}  // namespace sketchgrad::apps
