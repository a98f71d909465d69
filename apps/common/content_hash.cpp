#include "sketchgrad/apps/common/content_hash.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

ContentHash& ContentHash::add(const void* data, size_t bytes) {
  const auto* next = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < bytes; ++i) value_ = (value_ ^ next[i]) * 0x100000001b3u;
  return *this;
}

std::string ContentHash::text() const { return fmt::format("{:016x}", value_); }

uint64_t hash_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(path, 0, fmt::format("cannot be opened: {}", std::strerror(errno)));
  std::vector<char> buffer(size_t{1} << 20);
  ContentHash hash;
  while (file) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.add(buffer.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) throw DataError(path, 0, "cannot be read");
  return hash.value();
}

}  // namespace sketchgrad::apps
