#pragma once

#include <cstdint>

#include "sketchgrad/kernels/macros.h"

// Philox 4x32-10, counter-based random numbers with the same bits on every device (Salmon, Moraes,
// Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
namespace sketchgrad::kernels {

// One draw's identity: `offset` is unique per draw of an array, the element index is the counter.
struct PhiloxKey {
  uint64_t seed = 0;
  uint64_t offset = 0;
};

struct Philox4 {
  uint32_t v[4];
};

// Every 32-bit word lives in the low half of a 64-bit variable: loops over counters then vectorise
// without a shuffle between the widths.
SG_HD Philox4 philox(uint64_t seed, uint64_t counter_high, uint64_t counter_low) {
  constexpr uint64_t kLow = 0xFFFFFFFFu;
  uint64_t k0 = seed & kLow, k1 = seed >> 32;
  uint64_t c0 = counter_low & kLow, c1 = counter_low >> 32;
  uint64_t c2 = counter_high & kLow, c3 = counter_high >> 32;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53u * c0;
    const uint64_t p1 = 0xCD9E8D57u * c2;
    c0 = (p1 >> 32) ^ c1 ^ k0;
    c1 = p1 & kLow;
    c2 = (p0 >> 32) ^ c3 ^ k1;
    c3 = p0 & kLow;
    k0 = (k0 + 0x9E3779B9u) & kLow;
    k1 = (k1 + 0xBB67AE85u) & kLow;
  }
  return {{static_cast<uint32_t>(c0), static_cast<uint32_t>(c1), static_cast<uint32_t>(c2),
           static_cast<uint32_t>(c3)}};
}

// 32 random bits of element `index` of draw `key`: word index % 4 of block index / 4.
SG_HD uint32_t philox_bits(PhiloxKey key, uint64_t index) {
  return philox(key.seed, key.offset, index / 4).v[index % 4];
}

// Uniform in [0, 1), 24 bits: exact in float.
SG_HD float uniform_from_bits(uint32_t bits) {
  return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

}  // namespace sketchgrad::kernels
