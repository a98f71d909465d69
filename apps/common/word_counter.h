#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sketchgrad/apps/common/vocabulary.h"

namespace sketchgrad::apps {

struct VocabularyOptions {
  int64_t min_count = 1;  // words that stand fewer times become <unk>, which has an id in any case
  // Different words that are held while counting, at least 2; about 100 bytes each.
  int64_t most_words = int64_t{1} << 24;
};

// The words of one block of a text in order of first appearance, with their counts. It refers to
// the block's bytes.
class BlockWords {
 public:
  // Forgets what it held. As `for_each_token`.
  void count(std::string_view block);
  size_t size() const { return words_.size(); }
  std::string_view word(size_t i) const { return words_.word(i); }
  int64_t count_of(size_t i) const { return counts_[i]; }

 private:
  WordTable words_;
  std::vector<int64_t> counts_;
};

// Counts the words of a text whose blocks come in order.
//
// As long as there are at most `most_words` different words, counts are exact. Beyond that it is
// the lossy counting of Manku and Motwani ("Approximate frequency counts over data streams", VLDB
// 2002): with a bound b on the count of any word that is not held, 0 at first, a word that comes
// new may have stood b times before (its error). Where the table is full, b grows until no more
// than half of the words have count + error above it, and the others are dropped. So counts are too
// low by at most b. Unlike in the paper b grows when memory demands it, not with the length.
class WordCounter {
 public:
  explicit WordCounter(const VocabularyOptions& options);
  void add(const BlockWords& block);

  int64_t tokens() const { return tokens_; }
  // b: the largest count that a dropped word can have had; 0: none was dropped.
  int64_t most_dropped() const { return most_dropped_; }
  // Ids by falling frequency, equal ones by first appearance.
  Vocabulary vocabulary() const;

 private:
  struct Entry {
    int64_t count;
    int64_t error;
    int64_t first;  // its place in the order of appearance
  };
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  void drop_rarest();

  VocabularyOptions options_;
  std::unordered_map<std::string, Entry, Hash, std::equal_to<>> entries_;
  int64_t tokens_ = 0;
  int64_t appeared_ = 0;
  int64_t most_dropped_ = 0;
  int64_t first_dropped_ = std::numeric_limits<int64_t>::max();
};

}  // namespace sketchgrad::apps
