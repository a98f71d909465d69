#include "sketchgrad/apps/common/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace fs = std::filesystem;

namespace {

// A file beside the one that it is to become; deleted at the end of the scope unless it did.
class TemporaryFile {
 public:
  TemporaryFile(const std::string& what, const std::string& final_path)
      : what_(what),
        final_path_(final_path),
        path_(fmt::format("{}.{}.tmp", final_path, ::getpid())) {
    check_final_path();
    stream_.open(path_, std::ios::binary | std::ios::trunc);
    if (!stream_) fail(std::strerror(errno));
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  std::ostream& stream() { return stream_; }

  void commit() {
    stream_.close();
    if (!stream_) fail(std::strerror(errno));
    sync();
    if (std::rename(path_.c_str(), final_path_.c_str()) != 0) fail(std::strerror(errno));
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw IoError(fmt::format("[{}] {}: cannot be written: {}", what_, final_path_, reason));
  }

  // Renaming would replace a device or a pipe, and fails over a folder.
  void check_final_path() const {
    std::error_code none;
    const fs::file_status status = fs::status(final_path_, none);
    if (fs::is_directory(status)) fail(std::strerror(EISDIR));
    if (fs::exists(status) && !fs::is_regular_file(status)) fail("it is no regular file");
  }

  void sync() const {
    const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
    const int reason = errno;
    if (descriptor >= 0) ::close(descriptor);
    if (!synced) fail(std::strerror(reason));
  }

  std::string what_;
  std::string final_path_;
  std::string path_;
  std::ofstream stream_;
};

}  // namespace

void replace_file(const std::string& what, const std::string& path,
                  const std::function<void(std::ostream&)>& write) {
  TemporaryFile file(what, path);
  write(file.stream());
  file.commit();
}

void check_replaceable(const std::string& what, const std::string& path) {
  const TemporaryFile file(what, path);
}

}  // namespace sketchgrad::apps
