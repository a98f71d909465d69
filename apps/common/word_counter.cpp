#include "sketchgrad/apps/common/word_counter.h"

#include <algorithm>
#include <utility>

namespace sketchgrad::apps {

void BlockWords::count(std::string_view block) {
  words_.clear();
  counts_.clear();
  for_each_token(block, [&](std::string_view word) {
    const size_t i = words_.insert(word);
    if (i == counts_.size()) counts_.push_back(0);
    ++counts_[i];
  });
}

WordCounter::WordCounter(const VocabularyOptions& options) : options_(options) {
  check(options.most_words >= 2, "[vocabulary] {} words to hold, at least 2 must be",
        options.most_words);
}

void WordCounter::add(const BlockWords& block) {
  for (size_t i = 0; i < block.size(); ++i) {
    auto entry = entries_.find(block.word(i));
    if (entry == entries_.end()) {
      if (static_cast<int64_t>(entries_.size()) == options_.most_words) drop_rarest();
      entry =
          entries_.emplace(std::string(block.word(i)), Entry{0, most_dropped_, appeared_++}).first;
    }
    entry->second.count += block.count_of(i);
    tokens_ += block.count_of(i);
  }
}

void WordCounter::drop_rarest() {
  const auto is_rare = [&](const auto& entry) {
    const auto& [word, figures] = entry;
    if (word == kEndOfLine || figures.count + figures.error > most_dropped_) return false;
    first_dropped_ = std::min(first_dropped_, figures.first);
    return true;
  };
  do {
    ++most_dropped_;
    std::erase_if(entries_, is_rare);
  } while (static_cast<int64_t>(entries_.size()) > options_.most_words / 2);
}

Vocabulary WordCounter::vocabulary() const {
  using Ranked = std::pair<std::string_view, Entry>;
  // All rare words, and those that were dropped.
  Ranked unknown{kUnknownWord, {tokens_, 0, std::min(first_dropped_, appeared_)}};
  std::vector<Ranked> kept;
  for (const auto& [word, entry] : entries_) {
    if (word == kUnknownWord || (entry.count < options_.min_count && word != kEndOfLine)) {
      unknown.second.first = std::min(unknown.second.first, entry.first);
    } else {
      unknown.second.count -= entry.count;
      kept.emplace_back(word, entry);
    }
  }
  kept.push_back(unknown);
  std::sort(kept.begin(), kept.end(), [](const Ranked& a, const Ranked& b) {
    return std::pair(-a.second.count, a.second.first) < std::pair(-b.second.count, b.second.first);
  });
  std::vector<std::string_view> words;
  words.reserve(kept.size());
  for (const Ranked& ranked : kept) words.push_back(ranked.first);
  return Vocabulary(words);
}

}  // namespace sketchgrad::apps
