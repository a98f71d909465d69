#include "sketchgrad/framework/checkpoint.h"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <utility>

namespace sketchgrad {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors files are little endian");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the bound of the reference implementation
constexpr int kMaxDepth = 4;
constexpr const char* kMetadata = "__metadata__";

std::string system_reason() { return std::strerror(errno); }

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  // False where the system reports a late write error.
  bool close() { return ::close(std::exchange(descriptor_, -1)) == 0; }

 private:
  int descriptor_;
};

std::string_view format_name(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "F32";
    case DType::int32:
      return "I32";
    case DType::int64:
      return "I64";
    case DType::bfloat16:
      return "BF16";
    case DType::uint8:
      return "U8";
  }
  return "unknown";
}

std::optional<DType> parse_dtype(const std::string& name) {
  for (const DType dtype :
       {DType::float32, DType::int32, DType::int64, DType::bfloat16, DType::uint8}) {
    if (format_name(dtype) == name) return dtype;
  }
  return std::nullopt;
}

// --- writing ---

// Deleted at the end of the scope unless it took its final name.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& final_path) : final_path_(final_path) {
    check_final_path();
    static std::atomic<uint64_t> counter{0};
    int descriptor = -1;
    do {
      path_ = fmt::format("{}.{}-{}.tmp", final_path, ::getpid(), counter++);
      descriptor = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor < 0 && errno == EEXIST);
    if (descriptor < 0) fail("cannot create");
    file_.emplace(descriptor);
  }
  ~TemporaryFile() {
    if (file_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const void* data, size_t size) {
    constexpr size_t kMostAtOnce = size_t{1} << 30;
    const char* next = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t written = ::write(file_->get(), next, std::min(size, kMostAtOnce));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail("cannot write");
      next += written;
      size -= static_cast<size_t>(written);
    }
  }

  void commit() {
    if (::fsync(file_->get()) != 0) fail("cannot sync");
    if (!file_->close()) fail("cannot close");
    if (::rename(path_.c_str(), final_path_.c_str()) != 0) fail("cannot rename to the final name");
    file_.reset();
    sync_folder();
  }

 private:
  // Renaming would replace a device or a pipe.
  void check_final_path() const {
    struct stat found {};
    if (::stat(final_path_.c_str(), &found) != 0 || S_ISREG(found.st_mode)) return;
    throw IoError(
        fmt::format("[checkpoint] {}: cannot be written: {}", final_path_,
                    S_ISDIR(found.st_mode) ? std::strerror(EISDIR) : "it is no regular file"));
  }

  [[noreturn]] void fail(const char* action) const {
    throw IoError(
        fmt::format("[checkpoint] {}: {} ({}): {}", final_path_, action, path_, system_reason()));
  }

  // Without it a crash of the machine could lose the new name.
  void sync_folder() const {
    const size_t slash = final_path_.rfind('/');
    const std::string folder =
        slash == std::string::npos ? "." : final_path_.substr(0, std::max<size_t>(slash, 1));
    const File handle(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // EINVAL: a file system that does not sync folders.
    if (!handle.is_open() || (::fsync(handle.get()) != 0 && errno != EINVAL)) {
      throw IoError(
          fmt::format("[checkpoint] {}: cannot sync its folder: {}", final_path_, system_reason()));
    }
  }

  std::string final_path_;
  std::string path_;
  std::optional<File> file_;
};

using NamedTensor = std::pair<const std::string, Tensor>;

// Wide types first, as the reference implementation does: every tensor is aligned to its type.
std::vector<const NamedTensor*> in_file_order(const StateDict& state) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& entry : state.tensors) {
    check(entry.first != kMetadata, "[checkpoint] a tensor may not be named {}", kMetadata);
    check(entry.second.defined(), "[checkpoint] tensor {} is undefined", entry.first);
    order.push_back(&entry);
  }
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return size_of(a->second.dtype()) > size_of(b->second.dtype());
  });
  return order;
}

std::string make_header(const StateDict& state, const std::vector<const NamedTensor*>& order) {
  json header = json::object();
  if (!state.metadata.empty()) header[kMetadata] = state.metadata;
  int64_t offset = 0;
  for (const NamedTensor* entry : order) {
    const Tensor& tensor = entry->second;
    header[entry->first] = {{"dtype", format_name(tensor.dtype())},
                            {"shape", tensor.shape()},
                            {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception& error) {
    throw InvalidArgument(
        fmt::format("[checkpoint] names and metadata must be UTF-8: {}", error.what()));
  }
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes, ' ');
  check(text.size() <= kMaxHeaderBytes, "[checkpoint] a header of {} bytes, at most {}",
        text.size(), kMaxHeaderBytes);
  return text;
}

// --- reading ---

struct Entry {
  std::string name;
  DType dtype{};
  Shape shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

class Reader {
 public:
  explicit Reader(const std::string& path)
      : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (!file_.is_open()) fail("cannot open: " + system_reason());
    struct stat info {};
    if (::fstat(file_.get(), &info) != 0) fail("cannot stat: " + system_reason());
    if (!S_ISREG(info.st_mode)) fail("not a regular file");
    size_ = static_cast<uint64_t>(info.st_size);
  }

  StateDict load(const std::function<bool(const std::string& name)>& wanted) {
    StateDict state;
    state.source = path_;
    for (const Entry& entry : read_entries(state.metadata)) {
      if (wanted && !wanted(entry.name)) continue;
      const Tensor tensor =
          Tensor::empty(entry.shape, {Category::parameter, entry.name}, entry.dtype);
      read(data_begin_ + entry.begin, tensor.raw(), entry.end - entry.begin);
      state.tensors.emplace(entry.name, tensor);
    }
    return state;
  }

  MappedTensor map(const std::string& name) {
    std::map<std::string, std::string> metadata;
    for (const Entry& entry : read_entries(metadata)) {
      if (entry.name != name) continue;
      const uint64_t begin = data_begin_ + entry.begin;
      if (begin % static_cast<uint64_t>(size_of(entry.dtype)) != 0) {
        fail(fmt::format("tensor \"{}\" begins at byte {}, which is not aligned", name, begin));
      }
      const std::shared_ptr<const char> file = map_file();
      return {entry.shape, entry.dtype, {file, file.get() + begin}};
    }
    fail(fmt::format("tensor \"{}\" is missing", name));
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const { throw DataError(path_, 0, problem); }

  void read(uint64_t offset, void* out, uint64_t size) const {
    constexpr uint64_t kMostAtOnce = uint64_t{1} << 30;
    char* next = static_cast<char*>(out);
    while (size > 0) {
      const ssize_t count =
          ::pread(file_.get(), next, std::min(size, kMostAtOnce), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("cannot read: " + system_reason());
      if (count == 0) fail("the file became shorter while it was read");
      next += count;
      offset += static_cast<uint64_t>(count);
      size -= static_cast<uint64_t>(count);
    }
  }

  std::shared_ptr<const char> map_file() const {
    void* pages = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file_.get(), 0);
    if (pages == MAP_FAILED) fail("cannot map: " + system_reason());
    return {static_cast<const char*>(pages),
            [pages, size = size_](const char*) { ::munmap(pages, size); }};
  }

  // All tensors in their order in the file.
  std::vector<Entry> read_entries(std::map<std::string, std::string>& metadata) {
    const json header = parse_header(read_header());
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
      if (name == kMetadata) {
        metadata = parse_metadata(value);
      } else {
        entries.push_back(parse_entry(name, value));
      }
    }
    check_layout(entries);
    return entries;
  }

  std::string read_header() {
    if (size_ < kLengthBytes) fail(fmt::format("{} bytes are no safetensors file", size_));
    uint64_t length = 0;
    read(0, &length, kLengthBytes);
    if (length > kMaxHeaderBytes || length > size_ - kLengthBytes) {
      fail(fmt::format("a header of {} bytes in a file of {}", length, size_));
    }
    data_begin_ = kLengthBytes + length;
    std::string text(length, '\0');
    read(kLengthBytes, text.data(), length);
    if (text.empty() || text.front() != '{') fail("the header is no JSON object");
    return text;
  }

  // nlohmann's parser keeps the last of several equal names without a word; here that is damage.
  json parse_header(const std::string& text) const {
    std::vector<std::set<std::string>> open_objects;
    std::string duplicate;
    const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
      // Nesting costs the parser many times its bytes; a tensor's sizes are at depth 3.
      if (depth > kMaxDepth) fail("the header is nested too deeply");
      if (event == json::parse_event_t::object_start) {
        open_objects.emplace_back();
      } else if (event == json::parse_event_t::object_end) {
        open_objects.pop_back();
      } else if (event == json::parse_event_t::key) {
        const auto& name = parsed.get_ref<const std::string&>();
        if (!open_objects.back().insert(name).second) duplicate = name;
      }
      return true;
    };
    json header;
    try {
      header = json::parse(text, watch);
    } catch (const json::exception& error) {
      fail(fmt::format("the header is no JSON: {}", error.what()));
    }
    if (!header.is_object()) fail("the header is no JSON object");
    if (!duplicate.empty()) fail(fmt::format("the name \"{}\" stands twice", duplicate));
    return header;
  }

  std::map<std::string, std::string> parse_metadata(const json& value) const {
    if (!value.is_object()) fail("__metadata__ is no JSON object");
    std::map<std::string, std::string> result;
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) fail(fmt::format("metadata \"{}\" is no text", key));
      result.emplace(key, text.get<std::string>());
    }
    return result;
  }

  Entry parse_entry(const std::string& name, const json& value) const {
    const auto refuse = [&](const std::string& problem) {
      fail(fmt::format("tensor \"{}\": {}", name, problem));
    };
    if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
        !value.contains("shape") || !value.contains("data_offsets")) {
      refuse("it must have dtype, shape and data_offsets, no more");
    }
    const json& dtype_name = value["dtype"];
    const std::optional<DType> dtype =
        dtype_name.is_string() ? parse_dtype(dtype_name.get<std::string>()) : std::nullopt;
    if (!dtype) refuse("its dtype must be F32, I32, I64, BF16 or U8");
    const std::optional<Shape> shape = parse_sizes(value["shape"]);
    if (!shape) refuse("its shape must be a list of sizes");
    const std::optional<Shape> offsets = parse_sizes(value["data_offsets"]);
    if (!offsets || offsets->size() != 2) refuse("its data_offsets must be two offsets");
    Entry entry{name, *dtype, *shape, static_cast<uint64_t>((*offsets)[0]),
                static_cast<uint64_t>((*offsets)[1])};
    int64_t bytes = 0;
    try {
      bytes = element_count(entry.shape) * size_of(entry.dtype);
    } catch (const InvalidArgument& error) {
      refuse(error.what());
    }
    if (entry.end < entry.begin || entry.end - entry.begin != static_cast<uint64_t>(bytes)) {
      refuse(fmt::format("{} {} takes {} bytes, data_offsets are {} to {}",
                         format_name(entry.dtype), to_string(entry.shape), bytes, entry.begin,
                         entry.end));
    }
    return entry;
  }

  static std::optional<Shape> parse_sizes(const json& value) {
    if (!value.is_array()) return std::nullopt;
    Shape sizes;
    for (const json& size : value) {
      if (!size.is_number_unsigned()) return std::nullopt;
      const auto number = size.get<uint64_t>();
      if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      sizes.push_back(static_cast<int64_t>(number));
    }
    return sizes;
  }

  // The format wants the tensors to fill the data exactly, one after the other.
  void check_layout(std::vector<Entry>& entries) const {
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    uint64_t end = 0;
    for (const Entry& entry : entries) {
      if (entry.begin != end) {
        fail(fmt::format("tensor \"{}\" begins at {} of the data, where the one before ends at {}",
                         entry.name, entry.begin, end));
      }
      end = entry.end;
    }
    if (end != size_ - data_begin_) {
      fail(fmt::format("tensors take {} bytes, the file holds {}", end, size_ - data_begin_));
    }
  }

  std::string path_;
  File file_;
  uint64_t size_ = 0;
  uint64_t data_begin_ = 0;
};

template <class Integer>
Integer parse_integer(const StateDict& state, const std::string& key) {
  const std::string& text = state.text(key);
  Integer value{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size()) {
    throw DataError(state.source, 0, fmt::format("\"{}\" is \"{}\", not a number", key, text));
  }
  return value;
}

const Tensor& find_matching(const StateDict& state, const std::string& name, const Tensor& target) {
  const auto entry = state.tensors.find(name);
  if (entry == state.tensors.end()) {
    throw DataError(state.source, 0, fmt::format("tensor \"{}\" is missing", name));
  }
  const Tensor& found = entry->second;
  if (found.shape() != target.shape() || found.dtype() != target.dtype()) {
    throw DataError(state.source, 0,
                    fmt::format("tensor \"{}\" is {} {}, it must be {} {}", name,
                                to_string(found.dtype()), to_string(found.shape()),
                                to_string(target.dtype()), to_string(target.shape())));
  }
  return found;
}

}  // namespace

void StateDict::copy_to(const std::string& name, const Tensor& target) const {
  target.copy_from(find_matching(*this, name, target));
}

const std::string& StateDict::text(const std::string& key) const {
  const auto entry = metadata.find(key);
  if (entry == metadata.end()) throw DataError(source, 0, fmt::format("\"{}\" is missing", key));
  return entry->second;
}

int64_t StateDict::integer(const std::string& key) const {
  return parse_integer<int64_t>(*this, key);
}

uint64_t StateDict::unsigned_integer(const std::string& key) const {
  return parse_integer<uint64_t>(*this, key);
}

double StateDict::real(const std::string& key) const {
  const std::string& whole = text(key);
  std::string_view digits = whole;
  const bool negative = digits.starts_with('-');
  if (negative) digits.remove_prefix(1);
  if (digits.starts_with("0x")) digits.remove_prefix(2);
  double value = 0;
  const auto [end, problem] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::hex);
  if (problem != std::errc() || end != digits.data() + digits.size() || digits.starts_with('-')) {
    throw DataError(source, 0, fmt::format("\"{}\" is \"{}\", not a number", key, whole));
  }
  return negative ? -value : value;
}

void StateDict::set_integer(const std::string& key, int64_t value) {
  set(key, fmt::format("{}", value));
}

void StateDict::set_unsigned(const std::string& key, uint64_t value) {
  set(key, fmt::format("{}", value));
}

void StateDict::set_real(const std::string& key, double value) {
  set(key, fmt::format("{:a}", value));
}

void save_safetensors(const std::string& path, const StateDict& state) {
  const std::vector<const NamedTensor*> order = in_file_order(state);
  const std::string header = make_header(state, order);
  const uint64_t length = header.size();
  TemporaryFile file(path);
  file.write(&length, kLengthBytes);
  file.write(header.data(), header.size());
  for (const NamedTensor* entry : order) {
    const Tensor host = entry->second.to(kCpu, {Category::workspace, "checkpoint.host"});
    file.write(host.raw(), static_cast<size_t>(host.bytes()));
  }
  file.commit();
}

StateDict load_safetensors(const std::string& path,
                           const std::function<bool(const std::string& name)>& wanted) {
  return Reader(path).load(wanted);
}

MappedTensor map_safetensors(const std::string& path, const std::string& name) {
  return Reader(path).map(name);
}

void save_parameters(const Module& module, StateDict& state) {
  for (const Parameter* parameter : module.parameters()) {
    const bool is_new = state.tensors.emplace(parameter->name, parameter->value).second;
    check(is_new, "[checkpoint] two tensors are named {}", parameter->name);
  }
}

void load_parameters(const StateDict& state, Module& module) {
  const std::vector<Parameter*> parameters = module.parameters();
  // All before the first write: a file that does not match leaves the model as it was.
  for (const Parameter* parameter : parameters) {
    find_matching(state, parameter->name, parameter->value);
  }
  for (const Parameter* parameter : parameters) state.copy_to(parameter->name, parameter->value);
}

}  // namespace sketchgrad
