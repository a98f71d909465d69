#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sketchgrad/framework/checkpoint.h"

namespace sketchgrad::apps {

inline constexpr std::string_view kEndOfLine = "<eos>";
inline constexpr std::string_view kUnknownWord = "<unk>";

// Words and their ids 0, 1, ... Words hold no white space. Read-only once made.
class Vocabulary {
 public:
  // words[id]. Throws InvalidArgument if a word stands twice, or <eos> or <unk> is missing.
  explicit Vocabulary(const std::vector<std::string>& words);
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  int64_t size() const { return static_cast<int64_t>(words_.size()); }
  const std::string& word(int32_t id) const { return words_[static_cast<size_t>(id)]; }
  bool contains(std::string_view word) const { return ids_.contains(word); }
  // That of <unk> for a word that is not here.
  int32_t id(std::string_view word) const;
  int32_t end_of_line() const { return end_of_line_; }
  int32_t unknown() const { return unknown_; }
  // Of all words in order.
  uint64_t checksum() const;

  // The tensor <prefix>words holds the words' bytes, each word followed by '\n', in int32 elements:
  // safetensors has no text tensors, and text in metadata would have to be UTF-8.
  void save(StateDict& state, const std::string& prefix) const;
  // Throws DataError where the entries are missing or make no vocabulary.
  static Vocabulary load(const StateDict& state, const std::string& prefix);

 private:
  std::deque<std::string> words_;  // never moves a word, which the keys below look at
  std::unordered_map<std::string_view, int32_t> ids_;
  int32_t end_of_line_ = 0;
  int32_t unknown_ = 0;
};

// Calls f(std::string_view) for each token of a line: what stands between ASCII white space.
template <class Function>
void for_each_token(std::string_view line, Function f) {
  constexpr std::string_view kSpaces = " \t\n\v\f\r";
  for (size_t begin = line.find_first_not_of(kSpaces); begin != std::string_view::npos;) {
    const size_t end = line.find_first_of(kSpaces, begin);
    f(line.substr(begin, end - begin));
    begin = line.find_first_not_of(kSpaces, end);
  }
}

}  // namespace sketchgrad::apps
