#include "sketchgrad/apps/common/vocabulary.h"

#include <algorithm>
#include <cstring>

#include "sketchgrad/apps/common/content_hash.h"

namespace sketchgrad::apps {

namespace {

std::string joined(const std::deque<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text.append(word).push_back('\n');
  return text;
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

}  // namespace

Vocabulary::Vocabulary(const std::vector<std::string_view>& words) {
  for (const std::string_view word : words) {
    const size_t id = ids_.insert(words_.emplace_back(word));
    check(id == words_.size() - 1, "[vocabulary] the word '{}' stands twice", word);
  }
  for (const std::string_view word : {kEndOfLine, kUnknownWord}) {
    check(contains(word), "[vocabulary] {} is missing", word);
  }
  end_of_line_ = static_cast<int32_t>(ids_.find(kEndOfLine));
  unknown_ = static_cast<int32_t>(ids_.find(kUnknownWord));
}

int32_t Vocabulary::id(std::string_view word) const {
  const size_t id = ids_.find(word);
  return id == WordTable::kNone ? unknown_ : static_cast<int32_t>(id);
}

uint64_t Vocabulary::checksum() const { return ContentHash().add(joined(words_)).value(); }

void Vocabulary::save(StateDict& state, const std::string& prefix) const {
  const std::string text = joined(words_);
  std::vector<int32_t> packed((text.size() + sizeof(int32_t) - 1) / sizeof(int32_t));
  std::memcpy(packed.data(), text.data(), text.size());
  const std::string name = prefix + "words";
  state.tensors[name] =
      Tensor::from(packed, {static_cast<int64_t>(packed.size())}, {Category::data, name});
  state.set_integer(name + ".bytes", static_cast<int64_t>(text.size()));
}

Vocabulary Vocabulary::load(const StateDict& state, const std::string& prefix) {
  const std::string name = prefix + "words";
  const auto entry = state.tensors.find(name);
  if (entry == state.tensors.end()) {
    throw DataError(state.source, 0, fmt::format("tensor \"{}\" is missing", name));
  }
  const Tensor& packed = entry->second;
  const int64_t bytes = state.integer(name + ".bytes");
  if (packed.dtype() != DType::int32 || bytes < 0 || bytes > packed.bytes()) {
    throw DataError(state.source, 0, fmt::format("tensor \"{}\" holds no words", name));
  }
  try {
    return Vocabulary(
        split_lines({static_cast<const char*>(packed.raw()), static_cast<size_t>(bytes)}));
  } catch (const InvalidArgument& error) {
    throw DataError(state.source, 0, error.what());
  }
}

}  // namespace sketchgrad::apps
