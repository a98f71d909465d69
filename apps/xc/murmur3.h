#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace sketchgrad::apps::xc {

// MurmurHash3_x86_32 by Austin Appleby, who put the algorithm into the public domain. Other
// programs that hash features have it, too, so that they can make the same ones.
inline uint32_t murmur3(std::string_view bytes, uint32_t seed) {
  const auto mix = [](uint32_t k) { return std::rotl(k * 0xcc9e2d51u, 15) * 0x1b873593u; };
  uint32_t hash = seed;
  const size_t whole = bytes.size() / 4 * 4;
  for (size_t i = 0; i < whole; i += 4) {
    uint32_t k = 0;
    std::memcpy(&k, bytes.data() + i, 4);
    hash = std::rotl(hash ^ mix(k), 13) * 5 + 0xe6546b64u;
  }
  uint32_t rest = 0;
  for (size_t i = bytes.size(); i > whole; --i) {
    rest = rest << 8 | static_cast<unsigned char>(bytes[i - 1]);
  }
  if (whole < bytes.size()) hash ^= mix(rest);
  hash ^= static_cast<uint32_t>(bytes.size());
  hash = (hash ^ hash >> 16) * 0x85ebca6bu;
  hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
  return hash ^ hash >> 16;
}

// The hash's place among `buckets` equal parts of its range.
inline int32_t bucket_of(uint32_t hash, int64_t buckets) {
  return static_cast<int32_t>(uint64_t{hash} * static_cast<uint64_t>(buckets) >> 32);
}

}  // namespace sketchgrad::apps::xc
