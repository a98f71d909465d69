#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace sketchgrad::apps {

// A file's bytes, unpacked. One thread.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills up to `size` > 0 bytes of `out` and returns how many; 0 at the end. Throws
  // std::runtime_error with what is wrong with the stream; whoever knows the line makes a DataError
  // of it.
  virtual size_t read(char* out, size_t size) = 0;
  // How much of the file has been read so far, as it lies on the disk.
  virtual int64_t packed_bytes() const = 0;
};

// Unpacks xz and gzip, told by the file's first bytes; a name that ends in .xz or .gz must hold
// what it says. Throws DataError if the file cannot be opened, is empty or is of another format.
std::unique_ptr<ByteSource> open_bytes(const std::string& path);

}  // namespace sketchgrad::apps
