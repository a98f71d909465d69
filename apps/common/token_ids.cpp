#include "sketchgrad/apps/common/token_ids.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>
#include <utility>

namespace sketchgrad::apps {

namespace {

using nlohmann::json;

constexpr const char* kIds = "ids";
constexpr const char* kIdsChecksum = "ids.checksum";
constexpr const char* kChecksum = "checksum";
// Of the header with its length: a page, of which the names and numbers take a part.
constexpr size_t kHeaderBytes = 4096;

// Of all but the ids themselves.
uint64_t checksum_of(const StateDict& state) {
  ContentHash hash;
  for (const auto& [name, tensor] : state.tensors) {
    hash.add(name).add(tensor.raw(), static_cast<size_t>(tensor.bytes()));
  }
  for (const auto& [key, value] : state.metadata) {
    if (key != kChecksum) hash.add(key).add(value);
  }
  return hash.value();
}

std::string make_header(int64_t tokens, const StateDict& with) {
  json header;
  int64_t end = 0;
  const auto add = [&](const std::string& name, const char* type, const Shape& shape) {
    const int64_t begin = std::exchange(end, end + 4 * element_count(shape));
    header[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {begin, end}}};
  };
  add(kIds, "I32", {tokens});
  for (const auto& [name, tensor] : with.tensors) {
    add(name, tensor.dtype() == DType::int32 ? "I32" : "F32", tensor.shape());
  }
  header["__metadata__"] = with.metadata;
  const uint64_t length = kHeaderBytes - sizeof(length);
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += header.dump();
  check(bytes.size() <= kHeaderBytes, "[ids] a header of {} bytes, at most {}", bytes.size(),
        kHeaderBytes);
  bytes.resize(kHeaderBytes, ' ');
  return bytes;
}

}  // namespace

TokenIds::TokenIds(const Tensor& ids)
    : ids_(std::make_shared<Tensor>(ids), ids.data<int32_t>()),
      size_(ids.numel()),
      checksum_(ContentHash().add(ids.raw(), static_cast<size_t>(ids.bytes())).value()) {}

TokenIds::TokenIds(const MappedTensor& ids, uint64_t checksum)
    : ids_(std::static_pointer_cast<const int32_t>(ids.data)),
      size_(element_count(ids.shape)),
      checksum_(checksum) {
  check(ids.dtype == DType::int32, "[ids] {} instead of int32", to_string(ids.dtype));
}

TokenFileWriter::TokenFileWriter(std::ostream& file, const std::string& name)
    : file_(file), name_(name) {
  const std::string room(kHeaderBytes, ' ');
  write(room.data(), kHeaderBytes);
}

void TokenFileWriter::write(const void* data, int64_t bytes) {
  file_.write(static_cast<const char*>(data), bytes);
  check_written();
}

void TokenFileWriter::check_written() const {
  if (file_) return;
  throw IoError(fmt::format("[ids] {}: cannot be written: {}", name_, std::strerror(errno)));
}

void TokenFileWriter::add(std::span<const int32_t> ids) {
  write(ids.data(), static_cast<int64_t>(ids.size_bytes()));
  hash_.add(ids.data(), ids.size_bytes());
  tokens_ += static_cast<int64_t>(ids.size());
}

void TokenFileWriter::finish(StateDict with) {
  for (const auto& [name, tensor] : with.tensors) {
    check(size_of(tensor.dtype()) == 4, "[ids] {} is {}", name, to_string(tensor.dtype()));
    write(tensor.raw(), tensor.bytes());
  }
  with.set_integer("tokens", tokens_);
  with.set_unsigned(kIdsChecksum, hash_.value());
  with.set_unsigned(kChecksum, checksum_of(with));
  file_.seekp(0);
  const std::string header = make_header(tokens_, with);
  write(header.data(), static_cast<int64_t>(header.size()));
  file_.flush();
  check_written();
}

TokenFile open_token_file(const std::string& path) {
  StateDict with = load_safetensors(path, [](const std::string& name) { return name != kIds; });
  const MappedTensor ids = map_safetensors(path, kIds);
  if (with.unsigned_integer(kChecksum) != checksum_of(with) || ids.dtype != DType::int32 ||
      ids.shape != Shape{with.integer("tokens")}) {
    throw DataError(path, 0, "the content does not match its checksum");
  }
  return {TokenIds(ids, with.unsigned_integer(kIdsChecksum)), std::move(with)};
}

}  // namespace sketchgrad::apps
