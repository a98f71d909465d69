#include "sketchgrad/apps/common/byte_source.h"

#include <fmt/format.h>
#include <lzma.h>
#include <zlib.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace {

constexpr size_t kInputBytes = size_t{64} << 10;
// Above what xz -9 asks for; a damaged header could ask for 4 GiB.
constexpr uint64_t kDecoderMemory = uint64_t{1} << 30;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

class InputFile {
 public:
  explicit InputFile(File file) : file_(std::move(file)) {}
  size_t read(void* out, size_t size) {
    const size_t count = std::fread(out, 1, size, file_.get());
    if (count < size && std::ferror(file_.get())) {
      throw std::runtime_error(fmt::format("cannot be read: {}", std::strerror(errno)));
    }
    bytes_ += static_cast<int64_t>(count);
    return count;
  }
  void rewind() {
    std::rewind(file_.get());
    bytes_ = 0;
  }
  int64_t bytes() const { return bytes_; }

 private:
  File file_;
  int64_t bytes_ = 0;
};

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(InputFile file) : file_(std::move(file)) {}
  size_t read(char* out, size_t size) override { return file_.read(out, size); }
  int64_t packed_bytes() const override { return file_.bytes(); }

 private:
  InputFile file_;
};

// Packed bytes on their way into a decoder.
class PackedInput {
 public:
  explicit PackedInput(InputFile file) : file_(std::move(file)) {}
  // The number of new bytes at data(); 0 at the end of the file.
  size_t refill() { return file_.read(buffer_.data(), buffer_.size()); }
  uint8_t* data() { return buffer_.data(); }
  int64_t bytes() const { return file_.bytes(); }

 private:
  InputFile file_;
  std::array<uint8_t, kInputBytes> buffer_;
};

class XzSource final : public ByteSource {
 public:
  explicit XzSource(InputFile file) : input_(std::move(file)) {
    if (lzma_stream_decoder(&stream_, kDecoderMemory, LZMA_CONCATENATED) != LZMA_OK) {
      throw std::runtime_error("no memory for the xz decoder");
    }
  }
  ~XzSource() override { lzma_end(&stream_); }

  size_t read(char* out, size_t size) override {
    if (finished_) return 0;
    stream_.next_out = reinterpret_cast<uint8_t*>(out);
    stream_.avail_out = size;
    while (!finished_ && stream_.avail_out > 0) decode();
    return size - stream_.avail_out;
  }
  int64_t packed_bytes() const override { return input_.bytes(); }

 private:
  void decode() {
    if (stream_.avail_in == 0 && !input_ended_) {
      stream_.avail_in = input_.refill();
      stream_.next_in = input_.data();
      input_ended_ = stream_.avail_in == 0;
    }
    const lzma_ret result = lzma_code(&stream_, input_ended_ ? LZMA_FINISH : LZMA_RUN);
    finished_ = result == LZMA_STREAM_END;
    if (result == LZMA_BUF_ERROR) throw std::runtime_error("the xz stream is cut short");
    if (result == LZMA_MEMLIMIT_ERROR) {
      throw std::runtime_error("unpacking the xz stream would take more than 1 GiB");
    }
    if (result != LZMA_OK && !finished_) throw std::runtime_error("the xz stream is damaged");
  }

  PackedInput input_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool input_ended_ = false;
  bool finished_ = false;
};

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(InputFile file) : input_(std::move(file)) {
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK) {
      throw std::runtime_error("no memory for the gzip decoder");
    }
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(char* out, size_t size) override {
    if (finished_) return 0;
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(size);
    while (!finished_ && stream_.avail_out > 0) decode();
    return size - stream_.avail_out;
  }
  int64_t packed_bytes() const override { return input_.bytes(); }

 private:
  bool has_input() {
    if (stream_.avail_in == 0) {
      stream_.avail_in = static_cast<uInt>(input_.refill());
      stream_.next_in = input_.data();
    }
    return stream_.avail_in > 0;
  }

  void decode() {
    if (!has_input()) throw std::runtime_error("the gzip stream is cut short");
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      // A gzip file may be several streams in a row.
      finished_ = !has_input();
      if (!finished_) inflateReset(&stream_);
    } else if (result != Z_OK) {
      throw std::runtime_error("the gzip stream is damaged");
    }
  }

  PackedInput input_;
  z_stream stream_ = {};
  bool finished_ = false;
};

enum class Format : uint8_t { plain, xz, gzip };

Format format_of(std::string_view begin) {
  if (begin.substr(0, 6) == std::string_view("\xFD"
                                             "7zXZ\0",
                                             6)) {
    return Format::xz;
  }
  return begin.substr(0, 2) == "\x1F\x8B" ? Format::gzip : Format::plain;
}

Format detect_format(const std::string& path, InputFile& file) {
  std::array<char, 6> begin{};
  const size_t count = file.read(begin.data(), begin.size());
  if (count == 0) throw std::runtime_error("is empty");
  file.rewind();
  const Format format = format_of({begin.data(), count});
  if (path.ends_with(".xz") && format != Format::xz) throw std::runtime_error("is not an xz file");
  if (path.ends_with(".gz") && format != Format::gzip) {
    throw std::runtime_error("is not a gzip file");
  }
  return format;
}

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::string& path) {
  File file(std::fopen(path.c_str(), "rb"));
  if (!file) {
    throw DataError(path, 0, fmt::format("cannot be opened: {}", std::strerror(errno)));
  }
  try {
    InputFile input(std::move(file));
    switch (detect_format(path, input)) {
      case Format::xz:
        return std::make_unique<XzSource>(std::move(input));
      case Format::gzip:
        return std::make_unique<GzipSource>(std::move(input));
      case Format::plain:
        break;
    }
    return std::make_unique<PlainSource>(std::move(input));
  } catch (const std::runtime_error& error) {
    throw DataError(path, 0, error.what());
  }
}

}  // namespace sketchgrad::apps
