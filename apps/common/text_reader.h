#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/byte_source.h"

namespace sketchgrad::apps {

// A plain, .xz or .gz text file, block by block: neither the file nor its unpacked text is held in
// memory. One thread.
class TextReader {
 public:
  static constexpr size_t kBlockBytes = size_t{1} << 20;

  // Throws DataError if the file cannot be opened or is empty.
  explicit TextReader(const std::string& path, size_t block_bytes = kBlockBytes);

  // The next block of whole words, about `block_bytes` or as much as one word takes; false after
  // the last. Blocks are cut behind white space, in lines too, so that lines may be of any length;
  // the last line of the text is given an end where it has none. Throws DataError naming file and
  // line where the stream is damaged or cut short, there is a NUL byte, or a word is longer than
  // 1 GiB.
  bool next(std::string& block);
  // Of the file, so far.
  int64_t packed_bytes() const { return source_->packed_bytes(); }

 private:
  bool append(std::string& block);
  void count_lines(const std::string& block);

  std::string path_;
  size_t block_bytes_;
  std::unique_ptr<ByteSource> source_;
  std::string rest_;           // the beginning of a word
  bool line_is_open_ = false;  // the last block ended in the middle of one
  int64_t lines_ = 0;          // that ended in the blocks so far
};

// Several texts as one, in their order.
class TextsReader {
 public:
  // A file is opened when its turn comes.
  explicit TextsReader(std::vector<std::string> paths,
                       size_t block_bytes = TextReader::kBlockBytes);

  // As that of TextReader, and as its constructor.
  bool next(std::string& block);
  int64_t packed_bytes() const;  // so far
  // Of all files; 0 where the system does not tell.
  int64_t total_bytes() const { return total_bytes_; }

 private:
  std::vector<std::string> paths_;
  size_t block_bytes_;
  std::unique_ptr<TextReader> reader_;
  size_t opened_ = 0;
  int64_t total_bytes_ = 0;
  int64_t closed_bytes_ = 0;
};

}  // namespace sketchgrad::apps
