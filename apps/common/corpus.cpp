#include "sketchgrad/apps/common/corpus.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "sketchgrad/apps/common/content_hash.h"
#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/text_blocks.h"

namespace sketchgrad::apps {

namespace {

namespace fs = std::filesystem;

// Part of every key: bump it when the same text would give another file.
constexpr uint64_t kCacheVersion = 2;
constexpr const char* kVocabularyPrefix = "vocabulary.";
constexpr const char* kMostDropped = "vocabulary.most_dropped";

struct Counted {
  Vocabulary vocabulary;
  int64_t tokens;
  int64_t most_dropped;
};

Counted count_words(const std::vector<std::string>& paths, const VocabularyOptions& options) {
  WordCounter counter(options);
  TextsReader texts(paths);
  for_each_block<BlockWords>(
      texts, "counting words",
      [](const std::string& block, BlockWords& words) { words.count(block); },
      [&](const BlockWords& words) { counter.add(words); });
  return {counter.vocabulary(), counter.tokens(), counter.most_dropped()};
}

void write_ids(TokenFileWriter& file, const std::vector<std::string>& paths,
               const Vocabulary& vocabulary) {
  using Ids = std::vector<int32_t>;
  TextsReader texts(paths);
  for_each_block<Ids>(
      texts, "writing ids",
      [&](const std::string& block, Ids& ids) {
        ids.clear();
        for_each_token(block, [&](std::string_view word) { ids.push_back(vocabulary.id(word)); });
      },
      [&](const Ids& ids) { file.add(ids); });
}

void make_folder(const std::string& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);
  if (problem) {
    throw IoError(fmt::format("[cache] {}: cannot be made: {}", folder, problem.message()));
  }
}

// A file in the folder for temporary files that has no name any more.
class UnnamedFile {
 public:
  UnnamedFile() {
    std::error_code problem;
    name_ = (fs::temp_directory_path(problem) / "sketchgrad-ids-XXXXXX").string();
    if (problem) throw IoError(fmt::format("[ids] TMPDIR: {}", problem.message()));
    descriptor_ = ::mkostemp(name_.data(), O_CLOEXEC);
    if (descriptor_ < 0) {
      throw IoError(fmt::format("[ids] {}: cannot be created: {}", name_, std::strerror(errno)));
    }
    ::unlink(name_.c_str());
  }
  ~UnnamedFile() { ::close(descriptor_); }
  UnnamedFile(const UnnamedFile&) = delete;
  UnnamedFile& operator=(const UnnamedFile&) = delete;

  const std::string& name() const { return name_; }
  // Opens it, as long as this object lives.
  std::string path() const { return fmt::format("/proc/self/fd/{}", descriptor_); }

 private:
  std::string name_;
  int descriptor_ = -1;
};

}  // namespace

TrainingText read_training_text(const std::vector<std::string>& paths,
                                const VocabularyOptions& options) {
  return CachedReader("none", {}).read_training_text(paths, options);
}

TokenIds read_text(const std::string& path, const Vocabulary& vocabulary) {
  return CachedReader("none", {}).read_text(path, vocabulary);
}

CachedReader::CachedReader(std::string folder, std::function<void(const std::string&)> say)
    : folder_(std::move(folder)), say_(std::move(say)) {}

std::string CachedReader::cache_file(const Paths& paths, const std::string& key) const {
  std::error_code none;
  // A pipe can be read only once.
  if (folder_ == "none" || !fs::is_regular_file(paths.front(), none)) return "";
  std::vector<uint64_t> hashes(paths.size());
  kernels::TbbPolicy::for_each_block(static_cast<int64_t>(paths.size()), [&](int64_t i) {
    hashes[static_cast<size_t>(i)] = hash_file(paths[static_cast<size_t>(i)]);
  });
  ContentHash hash;
  hash.add(kCacheVersion);
  for (const uint64_t content : hashes) hash.add(content);
  hash.add(key);
  const fs::path first(paths.front());
  const fs::path folder =
      folder_.empty() ? first.parent_path() / ".sketchgrad-cache" : fs::path(folder_);
  const std::string name = fmt::format("{}-{}.safetensors", first.filename().string(), hash.text());
  return (folder / name).string();
}

std::optional<TokenFile> CachedReader::load(const std::string& file) const {
  std::error_code none;
  if (file.empty() || !fs::exists(file, none)) return std::nullopt;
  try {
    return open_token_file(file);
  } catch (const DataError& error) {
    say_(fmt::format("the cache is made anew: {}", error.what()));
    return std::nullopt;
  }
}

void CachedReader::go_on_without(const std::string& problem) const {
  if (std::exchange(told_, problem) != problem) {
    say_(fmt::format("going on without a cache: {}", problem));
  }
}

TokenIds CachedReader::store(const std::string& file, const WriteIds& write) const {
  if (!file.empty()) {
    try {
      make_folder(fs::path(file).parent_path().string());
      replace_file("cache", file, [&](std::ostream& stream) { write(stream, file); });
      return open_token_file(file).ids;
    } catch (const IoError& error) {
      go_on_without(error.what());
    }
  }
  const UnnamedFile unnamed;
  std::ofstream stream(unnamed.path(), std::ios::binary);
  write(stream, unnamed.name());
  return open_token_file(unnamed.path()).ids;
}

TrainingText CachedReader::read_training_text(const Paths& paths,
                                              const VocabularyOptions& options) const {
  return reading_texts(paths, [&]() -> TrainingText {
    check_texts(paths);
    const std::string file = cache_file(paths, fmt::format("train min_count={} most_words={}",
                                                           options.min_count, options.most_words));
    if (std::optional<TokenFile> cached = load(file)) {
      return {Vocabulary::load(cached->with, kVocabularyPrefix), std::move(cached->ids),
              cached->with.integer(kMostDropped)};
    }
    Counted counted = count_words(paths, options);
    StateDict with;
    counted.vocabulary.save(with, kVocabularyPrefix);
    with.set_integer(kMostDropped, counted.most_dropped);
    TokenIds ids = store(file, [&](std::ostream& stream, const std::string& name) {
      TokenFileWriter writer(stream, name);
      write_ids(writer, paths, counted.vocabulary);
      if (writer.tokens() != counted.tokens) {
        throw DataError(names_of(paths), 0, "changed between the first and the second reading");
      }
      writer.finish(with);
    });
    return {std::move(counted.vocabulary), std::move(ids), counted.most_dropped};
  });
}

TokenIds CachedReader::read_text(const std::string& path, const Vocabulary& vocabulary) const {
  return reading_texts({path}, [&] {
    const std::string file =
        cache_file({path}, fmt::format("vocabulary={}", vocabulary.checksum()));
    if (std::optional<TokenFile> cached = load(file)) return cached->ids;
    return store(file, [&](std::ostream& stream, const std::string& name) {
      TokenFileWriter writer(stream, name);
      write_ids(writer, {path}, vocabulary);
      writer.finish({});
    });
  });
}

}  // namespace sketchgrad::apps
