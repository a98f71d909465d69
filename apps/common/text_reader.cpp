#include "sketchgrad/apps/common/text_reader.h"

#include <algorithm>
#include <stdexcept>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr size_t kMostLineBytes = size_t{1} << 30;

}  // namespace

TextReader::TextReader(const std::string& path)
    : path_(path), source_(open_bytes(path)), buffer_(kBufferBytes) {
  // A packed file can be whole and yet hold nothing.
  if (!refill()) throw DataError(path_, 0, "is empty");
}

bool TextReader::refill() {
  begin_ = 0;
  try {
    end_ = source_->read(buffer_.data(), buffer_.size());
  } catch (const std::runtime_error& error) {
    throw DataError(path_, line_number_ + 1, error.what());
  }
  return end_ > 0;
}

bool TextReader::next(std::string& line) {
  line.clear();
  bool found_end = false;
  while (!found_end) {
    if (begin_ == end_ && !refill()) {
      if (line.empty()) return false;
      break;
    }
    const char* first = buffer_.data() + begin_;
    const char* last = buffer_.data() + end_;
    const char* newline = std::find(first, last, '\n');
    found_end = newline != last;
    line.append(first, newline);
    begin_ = static_cast<size_t>(newline - buffer_.data()) + (found_end ? 1 : 0);
    if (line.size() > kMostLineBytes) {
      throw DataError(path_, line_number_ + 1, "the line is longer than 1 GiB");
    }
  }
  ++line_number_;
  if (line.ends_with('\r')) line.pop_back();
  if (line.find('\0') != std::string::npos) {
    throw DataError(path_, line_number_, "a NUL byte: this is no text");
  }
  return true;
}

}  // namespace sketchgrad::apps
