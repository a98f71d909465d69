#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/apps/common/word_table.h"
#include "sketchgrad/framework/checkpoint.h"

namespace sketchgrad::apps {

inline constexpr std::string_view kEndOfLine = "<eos>";
inline constexpr std::string_view kUnknownWord = "<unk>";

// Words and their ids 0, 1, ... Words hold no white space. Read-only once made.
class Vocabulary {
 public:
  // words[id]. Throws InvalidArgument if a word stands twice, or <eos> or <unk> is missing.
  explicit Vocabulary(const std::vector<std::string_view>& words);
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  int64_t size() const { return static_cast<int64_t>(words_.size()); }
  const std::string& word(int32_t id) const { return words_[static_cast<size_t>(id)]; }
  bool contains(std::string_view word) const { return ids_.find(word) != WordTable::kNone; }
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
  std::deque<std::string> words_;  // never moves a word, which the table refers to
  WordTable ids_;
  int32_t end_of_line_ = 0;
  int32_t unknown_ = 0;
};

// ASCII white space, which stands between words.
constexpr bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Calls f(std::string_view) for each token of a text: its words, and kEndOfLine for each '\n'.
template <class Function>
void for_each_token(std::string_view text, Function f) {
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && !is_space(text[end])) ++end;
    if (end > begin) f(text.substr(begin, end - begin));
    if (end < text.size() && text[end] == '\n') f(kEndOfLine);
    begin = end + 1;
  }
}

}  // namespace sketchgrad::apps
