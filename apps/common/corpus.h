#pragma once

#include <functional>
#include <optional>
#include <string>

#include "sketchgrad/apps/common/vocabulary.h"

// Text files as token ids. Each line, blank ones too, gives its tokens (split at white space) and
// <eos>, as in the usual processing of WikiText-2.
namespace sketchgrad::apps {

struct TrainingText {
  Vocabulary vocabulary;
  Tensor ids;  // int32 [tokens], category data
};

// Reads the text and makes its vocabulary: ids by falling frequency, equal ones by first
// appearance. Words that stand fewer than `vocab_min` times become <unk>, which has an id in any
// case.
TrainingText read_training_text(const std::string& path, int64_t vocab_min);
// Reads the text by a vocabulary: words that it does not hold are <unk>.
Tensor read_text(const std::string& path, const Vocabulary& vocabulary);

// The same, kept in files so that the next run needs neither unpacking nor counting.
class CachedReader {
 public:
  // `folder`: where the files go; empty: the folder .sketchgrad-cache beside each text; "none": no
  // cache. `say` is told in one line where a cache cannot be written or was damaged.
  CachedReader(std::string folder, std::function<void(const std::string&)> say);

  TrainingText read_training_text(const std::string& path, int64_t vocab_min) const;
  Tensor read_text(const std::string& path, const Vocabulary& vocabulary) const;

 private:
  // `key`: what the content depends on, besides the bytes of the text.
  std::string cache_file(const std::string& path, const std::string& key) const;
  std::optional<StateDict> load(const std::string& file) const;
  void store(const std::string& file, StateDict state) const;

  std::string folder_;
  std::function<void(const std::string&)> say_;
};

}  // namespace sketchgrad::apps
