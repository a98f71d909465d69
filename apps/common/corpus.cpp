#include "sketchgrad/apps/common/corpus.h"

#include <algorithm>
#include <filesystem>
#include <new>
#include <system_error>
#include <utility>

#include "sketchgrad/apps/common/content_hash.h"
#include "sketchgrad/apps/common/out_of_memory.h"
#include "sketchgrad/apps/common/text_reader.h"
#include "sketchgrad/apps/common/token_buffer.h"

namespace sketchgrad::apps {

namespace {

namespace fs = std::filesystem;

// Part of every key: bump it when the same text would give other ids.
constexpr uint64_t kCacheVersion = 1;
constexpr const char* kIds = "ids";
constexpr const char* kVocabularyPrefix = "vocabulary.";
constexpr const char* kChecksum = "checksum";

// Words in order of appearance, with their counts.
class WordCounter {
 public:
  int32_t count(std::string_view word) {
    auto entry = ids_.find(word);
    if (entry == ids_.end()) {
      const auto id = static_cast<int32_t>(words_.size());
      entry = ids_.emplace(words_.emplace_back(word), id).first;
      counts_.push_back(0);
    }
    ++counts_[static_cast<size_t>(entry->second)];
    return entry->second;
  }
  size_t size() const { return words_.size(); }
  const std::string& word(size_t id) const { return words_[id]; }
  int64_t count_of(size_t id) const { return counts_[id]; }

 private:
  std::deque<std::string> words_;
  std::unordered_map<std::string_view, int32_t> ids_;
  std::vector<int64_t> counts_;
};

// A word as the vocabulary takes it; <unk> stands for all rare ones.
struct RankedWord {
  std::string word;
  int64_t count;
  size_t first_appearance;
};

// The words that stay, most frequent first.
std::vector<RankedWord> rank(const WordCounter& counter, int64_t vocab_min) {
  RankedWord unknown{std::string(kUnknownWord), 0, counter.size()};
  std::vector<RankedWord> words;
  for (size_t i = 0; i < counter.size(); ++i) {
    const std::string& word = counter.word(i);
    if (word == kUnknownWord || (counter.count_of(i) < vocab_min && word != kEndOfLine)) {
      unknown.count += counter.count_of(i);
      unknown.first_appearance = std::min(unknown.first_appearance, i);
    } else {
      words.push_back({word, counter.count_of(i), i});
    }
  }
  words.push_back(unknown);
  std::sort(words.begin(), words.end(), [](const RankedWord& a, const RankedWord& b) {
    return std::pair(-a.count, a.first_appearance) < std::pair(-b.count, b.first_appearance);
  });
  return words;
}

Vocabulary make_vocabulary(const WordCounter& counter, int64_t vocab_min) {
  std::vector<std::string> words;
  for (RankedWord& entry : rank(counter, vocab_min)) words.push_back(std::move(entry.word));
  return Vocabulary(words);
}

// encode(std::string_view) gives a token's id.
template <class Encode>
TokenBuffer read_tokens(const std::string& path, Encode encode) {
  TextReader reader(path);
  TokenBuffer tokens;
  std::string line;
  while (reader.next(line)) {
    for_each_token(line, [&](std::string_view word) { tokens.push(encode(word)); });
    tokens.push(encode(kEndOfLine));
  }
  return tokens;
}

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

// Loaded tensors count as parameters.
Tensor ids_of(const StateDict& state) {
  return state.tensors.at(kIds).clone({Category::data, "tokens"});
}

// f() of what reads a text, whose lines and words are in memory that the allocator does not know.
template <class Function>
auto reading(const std::string& path, Function f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    throw_out_of_memory(fmt::format("[text] reading {}", path));
  }
}

TrainingText count_and_encode(const std::string& path, int64_t vocab_min) {
  WordCounter counter;
  TokenBuffer tokens =
      read_tokens(path, [&](std::string_view word) { return counter.count(word); });
  Vocabulary vocabulary = make_vocabulary(counter, vocab_min);
  std::vector<int32_t> rename(counter.size());
  for (size_t i = 0; i < rename.size(); ++i) rename[i] = vocabulary.id(counter.word(i));
  return {std::move(vocabulary), tokens.finish("tokens", rename)};
}

}  // namespace

TrainingText read_training_text(const std::string& path, int64_t vocab_min) {
  return reading(path, [&] { return count_and_encode(path, vocab_min); });
}

Tensor read_text(const std::string& path, const Vocabulary& vocabulary) {
  return reading(path, [&] {
    return read_tokens(path, [&](std::string_view word) { return vocabulary.id(word); })
        .finish("tokens");
  });
}

CachedReader::CachedReader(std::string folder, std::function<void(const std::string&)> say)
    : folder_(std::move(folder)), say_(std::move(say)) {}

std::string CachedReader::cache_file(const std::string& path, const std::string& key) const {
  if (folder_ == "none") return "";
  const fs::path text(path);
  const fs::path folder =
      folder_.empty() ? text.parent_path() / ".sketchgrad-cache" : fs::path(folder_);
  const std::string hash = ContentHash().add(kCacheVersion).add(hash_file(path)).add(key).text();
  return (folder / fmt::format("{}-{}.safetensors", text.filename().string(), hash)).string();
}

std::optional<StateDict> CachedReader::load(const std::string& file) const {
  std::error_code none;
  if (file.empty() || !fs::exists(file, none)) return std::nullopt;
  try {
    StateDict state = load_safetensors(file);
    if (state.unsigned_integer(kChecksum) != checksum_of(state) || !state.tensors.contains(kIds)) {
      throw DataError(file, 0, "the content does not match its checksum");
    }
    return state;
  } catch (const DataError& error) {
    say_(fmt::format("the cache is made anew: {}", error.what()));
    return std::nullopt;
  }
}

void CachedReader::store(const std::string& file, StateDict state) const {
  if (file.empty()) return;
  state.set_unsigned(kChecksum, checksum_of(state));
  try {
    fs::create_directories(fs::path(file).parent_path());
    save_safetensors(file, state);
  } catch (const IoError& error) {
    say_(fmt::format("going on without a cache: {}", error.what()));
  } catch (const fs::filesystem_error& error) {
    say_(fmt::format("going on without a cache: {}", error.what()));
  }
}

TrainingText CachedReader::read_training_text(const std::string& path, int64_t vocab_min) const {
  const std::string file = cache_file(path, fmt::format("train vocab_min={}", vocab_min));
  if (const std::optional<StateDict> state = load(file)) {
    return {Vocabulary::load(*state, kVocabularyPrefix), ids_of(*state)};
  }
  TrainingText text = apps::read_training_text(path, vocab_min);
  StateDict state;
  state.tensors[kIds] = text.ids;
  text.vocabulary.save(state, kVocabularyPrefix);
  store(file, std::move(state));
  return text;
}

Tensor CachedReader::read_text(const std::string& path, const Vocabulary& vocabulary) const {
  const std::string file = cache_file(path, fmt::format("vocabulary={}", vocabulary.checksum()));
  if (const std::optional<StateDict> state = load(file)) return ids_of(*state);
  const Tensor ids = apps::read_text(path, vocabulary);
  StateDict state;
  state.tensors[kIds] = ids;
  store(file, std::move(state));
  return ids;
}

}  // namespace sketchgrad::apps
