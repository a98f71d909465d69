#include "sketchgrad/apps/common/text_reader.h"

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "sketchgrad/apps/common/vocabulary.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMostWordBytes = size_t{1} << 30;

// Behind the last white space from `begin` on; `begin` where there is none.
size_t end_of_words(const std::string& block, size_t begin) {
  size_t end = block.size();
  while (end > begin && !is_space(block[end - 1])) --end;
  return end;
}

}  // namespace

TextReader::TextReader(const std::string& path, size_t block_bytes)
    : path_(path), block_bytes_(block_bytes), source_(open_bytes(path)) {
  // A packed file can be whole and yet hold nothing.
  if (!append(rest_)) throw DataError(path_, 0, "is empty");
}

// False at the end.
bool TextReader::append(std::string& block) {
  const size_t before = block.size();
  block.resize(before + block_bytes_);
  size_t count = 0;
  try {
    count = source_->read(block.data() + before, block_bytes_);
  } catch (const std::runtime_error& error) {
    // What was unpacked until then; zeros follow.
    const auto lines = std::count(block.begin(), block.end(), '\n');
    throw DataError(path_, lines_ + lines + 1, error.what());
  }
  block.resize(before + count);
  return count > 0;
}

bool TextReader::next(std::string& block) {
  block.assign(rest_);
  rest_.clear();
  size_t end = end_of_words(block, 0);
  while (end == 0) {
    if (block.size() > kMostWordBytes) {
      throw DataError(path_, lines_ + 1, "a word is longer than 1 GiB: this is no text");
    }
    const size_t searched = block.size();
    if (append(block)) {
      end = end_of_words(block, searched);
      if (end == searched) end = 0;
    } else {
      if (block.empty() && !line_is_open_) return false;
      block.push_back('\n');
      end = block.size();
    }
  }
  rest_.assign(block, end);
  block.resize(end);
  line_is_open_ = block.back() != '\n';
  count_lines(block);
  return true;
}

void TextReader::count_lines(const std::string& block) {
  const size_t nul = block.find('\0');
  lines_ += std::count(block.data(), block.data() + std::min(nul, block.size()), '\n');
  if (nul != std::string::npos) throw DataError(path_, lines_ + 1, "a NUL byte: this is no text");
}

TextsReader::TextsReader(std::vector<std::string> paths, size_t block_bytes)
    : paths_(std::move(paths)), block_bytes_(block_bytes) {
  for (const std::string& path : paths_) {
    std::error_code unknown;
    const uintmax_t bytes = fs::file_size(path, unknown);
    if (unknown) {
      total_bytes_ = 0;
      break;
    }
    total_bytes_ += static_cast<int64_t>(bytes);
  }
}

bool TextsReader::next(std::string& block) {
  while (true) {
    if (reader_ && reader_->next(block)) return true;
    if (opened_ == paths_.size()) return false;
    closed_bytes_ = packed_bytes();
    reader_ = std::make_unique<TextReader>(paths_[opened_++], block_bytes_);
  }
}

int64_t TextsReader::packed_bytes() const {
  return closed_bytes_ + (reader_ ? reader_->packed_bytes() : 0);
}

}  // namespace sketchgrad::apps
