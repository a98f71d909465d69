#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sketchgrad::apps {

// FNV-1a, 64 bits: tells contents apart and finds damage; no protection against forgery.
class ContentHash {
 public:
  ContentHash& add(const void* data, size_t bytes);
  ContentHash& add(std::string_view text) { return add(text.data(), text.size()); }
  ContentHash& add(uint64_t number) { return add(&number, sizeof(number)); }

  uint64_t value() const { return value_; }
  // 16 hexadecimal digits.
  std::string text() const;

 private:
  uint64_t value_ = 0xcbf29ce484222325u;
};

// Of a file's bytes as they lie on the disk. Throws DataError if it cannot be read.
uint64_t hash_file(const std::string& path);

}  // namespace sketchgrad::apps
