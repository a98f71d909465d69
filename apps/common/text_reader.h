#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/byte_source.h"

namespace sketchgrad::apps {

// Where blocks of a text are cut.
enum class TextCut : uint8_t {
  words,  // behind any white space, in lines too, so that lines may be of any length
  lines,  // behind ends of lines
};

// Where a block of a text begins.
struct TextPlace {
  std::string file;
  int64_t line = 0;  // counts from 1
};

// A plain, .xz or .gz text file, block by block: neither the file nor its unpacked text is held in
// memory. One thread.
class TextReader {
 public:
  static constexpr size_t kBlockBytes = size_t{1} << 20;

  // Throws DataError if the file cannot be opened or is empty.
  explicit TextReader(const std::string& path, size_t block_bytes = kBlockBytes,
                      TextCut cut = TextCut::words);

  // The next block of whole words or lines, about `block_bytes` or as much as one of them takes;
  // false after the last. The last line of the text is given an end where it has none. Throws
  // DataError naming file and line where the stream is damaged or cut short, there is a NUL byte,
  // or a word or line, whichever is not cut, is longer than 1 GiB.
  bool next(std::string& block);
  // Of the block that next gave last.
  TextPlace place() const { return {path_, block_line_}; }
  // Of the file, so far.
  int64_t packed_bytes() const { return source_->packed_bytes(); }

 private:
  size_t end_of_whole(const std::string& block, size_t begin) const;
  bool append(std::string& block);
  void count_lines(const std::string& block);

  std::string path_;
  size_t block_bytes_;
  TextCut cut_;
  std::unique_ptr<ByteSource> source_;
  std::string rest_;           // the beginning of a word or line
  bool line_is_open_ = false;  // the last block ended in the middle of one
  int64_t lines_ = 0;          // that ended in the blocks so far
  int64_t block_line_ = 0;
};

// Several texts as one, in their order.
class TextsReader {
 public:
  // A file is opened when its turn comes.
  explicit TextsReader(std::vector<std::string> paths, size_t block_bytes = TextReader::kBlockBytes,
                       TextCut cut = TextCut::words);

  // As that of TextReader, and as its constructor.
  bool next(std::string& block);
  // Of the block that next gave last; a block is of one file.
  TextPlace place() const { return reader_->place(); }
  int64_t packed_bytes() const;  // so far
  // Of all files; 0 where the system does not tell.
  int64_t total_bytes() const { return total_bytes_; }

 private:
  std::vector<std::string> paths_;
  size_t block_bytes_;
  TextCut cut_;
  std::unique_ptr<TextReader> reader_;
  size_t opened_ = 0;
  int64_t total_bytes_ = 0;
  int64_t closed_bytes_ = 0;
};

// Finds what is wrong with the last file before the first is read. Throws DataError for the first
// one that cannot be opened, is empty, or cannot be read twice because it is no regular file.
void check_texts(const std::vector<std::string>& paths);

}  // namespace sketchgrad::apps
