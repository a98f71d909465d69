#include "sketchgrad/apps/common/text_reader.h"

#include <fmt/format.h>

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

constexpr size_t kMostWholeBytes = size_t{1} << 30;

}  // namespace

TextReader::TextReader(const std::string& path, size_t block_bytes, TextCut cut)
    : path_(path), block_bytes_(block_bytes), cut_(cut), source_(open_bytes(path)) {
  // A packed file can be whole and yet hold nothing.
  if (!append(rest_)) throw DataError(path_, 0, "is empty");
}

// Behind the last place to cut from `begin` on; `begin` where there is none.
size_t TextReader::end_of_whole(const std::string& block, size_t begin) const {
  const auto is_cut = [this](char c) { return cut_ == TextCut::lines ? c == '\n' : is_space(c); };
  size_t end = block.size();
  while (end > begin && !is_cut(block[end - 1])) --end;
  return end;
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
  size_t end = end_of_whole(block, 0);
  while (end == 0) {
    if (block.size() > kMostWholeBytes) {
      const char* whole = cut_ == TextCut::lines ? "line" : "word";
      throw DataError(path_, lines_ + 1,
                      fmt::format("a {} is longer than 1 GiB: this is no text", whole));
    }
    const size_t searched = block.size();
    if (append(block)) {
      end = end_of_whole(block, searched);
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
  block_line_ = lines_ + 1;
  count_lines(block);
  return true;
}

void TextReader::count_lines(const std::string& block) {
  const size_t nul = block.find('\0');
  lines_ += std::count(block.data(), block.data() + std::min(nul, block.size()), '\n');
  if (nul != std::string::npos) throw DataError(path_, lines_ + 1, "a NUL byte: this is no text");
}

TextsReader::TextsReader(std::vector<std::string> paths, size_t block_bytes, TextCut cut)
    : paths_(std::move(paths)), block_bytes_(block_bytes), cut_(cut) {
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
    reader_ = std::make_unique<TextReader>(paths_[opened_++], block_bytes_, cut_);
  }
}

int64_t TextsReader::packed_bytes() const {
  return closed_bytes_ + (reader_ ? reader_->packed_bytes() : 0);
}

void check_texts(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const TextReader readable(path);
    std::error_code none;
    if (!fs::is_regular_file(path, none)) {
      throw DataError(path, 0, "is no regular file, and it is to be read twice");
    }
  }
}

}  // namespace sketchgrad::apps
