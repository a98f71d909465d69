#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/byte_source.h"

namespace sketchgrad::apps {

// Lines of a plain, .xz or .gz text file, one at a time: neither the file nor its unpacked text is
// held in memory. One thread.
//
//   TextReader reader(path);
//   std::string line;
//   while (reader.next(line)) ...
class TextReader {
 public:
  // Throws DataError if the file cannot be opened or is empty.
  explicit TextReader(const std::string& path);

  // The next line without its end ("\n" or "\r\n"); false after the last. Throws DataError naming
  // file and line where the stream is damaged or cut short, a line holds a NUL byte, or is longer
  // than 1 GiB.
  bool next(std::string& line);
  // Of the line read last; the first is 1.
  int64_t line_number() const { return line_number_; }

 private:
  bool refill();

  std::string path_;
  std::unique_ptr<ByteSource> source_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  int64_t line_number_ = 0;
};

}  // namespace sketchgrad::apps
