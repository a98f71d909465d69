#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sketchgrad::apps {

// Different words and their places 0, 1, ... in the order in which they came; a hash table with
// open addressing, since every token of a text is looked up. It refers to the words' bytes, which
// must stay where they are.
class WordTable {
 public:
  static constexpr size_t kNone = SIZE_MAX;

  size_t size() const { return words_.size(); }
  std::string_view word(size_t place) const { return words_[place]; }
  // kNone where the word is not here.
  size_t find(std::string_view word) const;
  // That of the word, which is size() - 1 where it has not been here before.
  size_t insert(std::string_view word);
  // Keeps its memory.
  void clear();

 private:
  // place + 1, so that 0 says that the slot is free.
  struct Slot {
    uint32_t hash = 0;
    uint32_t number = 0;
  };
  // The word's own, or the free one that would become it.
  size_t slot_of(std::string_view word, uint32_t hash) const;
  void grow();

  std::vector<std::string_view> words_;
  std::vector<Slot> slots_;  // a power of two, at most half of them taken
};

}  // namespace sketchgrad::apps
