#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/content_hash.h"
#include "sketchgrad/framework/checkpoint.h"

namespace sketchgrad::apps {

// The ids of a text, to be read only: int32 in a tensor or in a mapped file. Copies share them.
class TokenIds {
 public:
  TokenIds() = default;  // of no text
  // int32 [tokens] on the CPU.
  explicit TokenIds(const Tensor& ids);
  // int32 [tokens]; `checksum` is that of the ids.
  TokenIds(const MappedTensor& ids, uint64_t checksum);

  const int32_t* data() const { return ids_.get(); }
  int64_t size() const { return size_; }
  std::span<const int32_t> all() const { return {data(), static_cast<size_t>(size_)}; }
  // ContentHash of all ids, known without reading them.
  uint64_t checksum() const { return checksum_; }
  std::vector<int32_t> to_vector() const { return {data(), data() + size()}; }

 private:
  std::shared_ptr<const int32_t> ids_;
  int64_t size_ = 0;
  uint64_t checksum_ = 0;
};

// A safetensors file with the ids of a text as tensor "ids", and what goes with them (a
// vocabulary). It is written front to back while the ids are made, the header last, at the
// beginning; nobody has to know their number before, or to hold them.
class TokenFileWriter {
 public:
  // `name` is the file's, for messages. Both are to outlive the writer.
  TokenFileWriter(std::ostream& file, const std::string& name);

  // All functions throw IoError with the system's reason where the file does not take what is
  // written.
  void add(std::span<const int32_t> ids);
  // `with`: tensors of int32 or float32, and metadata. The file is whole after it.
  void finish(StateDict with);
  int64_t tokens() const { return tokens_; }

 private:
  void write(const void* data, int64_t bytes);
  void check_written() const;

  std::ostream& file_;
  const std::string& name_;
  int64_t tokens_ = 0;
  ContentHash hash_;
};

// Such a file, opened again. The ids are mapped; of their bytes none is read here, and damage to
// them is not found (a cut file is, by its size). A checksum covers everything else.
struct TokenFile {
  TokenIds ids;
  StateDict with;
};
// Throws DataError naming what is damaged.
TokenFile open_token_file(const std::string& path);

}  // namespace sketchgrad::apps
