#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/token_ids.h"
#include "sketchgrad/apps/common/word_counter.h"

// Text files as token ids. Each line, blank ones too, gives its tokens (split at white space) and
// <eos>, as in the usual processing of WikiText-2.
//
// Texts are read in blocks (text_blocks.h) and ids go to a file as they are made, which is then
// mapped: neither has to fit the memory. What does is the words: those held while counting, and the
// vocabulary.
namespace sketchgrad::apps {

struct TrainingText {
  Vocabulary vocabulary;
  TokenIds ids;
  // The largest count of a word that was dropped while counting, as WordCounter has it; 0: none
  // was.
  int64_t most_dropped = 0;
};

// Reads the texts twice, as one text in their order, and makes their vocabulary: ids by falling
// frequency, equal ones by first appearance. They must be regular files. Throws DataError naming
// file and line, and IoError where the ids cannot be written.
TrainingText read_training_text(const std::vector<std::string>& paths,
                                const VocabularyOptions& options);
// Reads a text by a vocabulary: words that it does not hold are <unk>.
TokenIds read_text(const std::string& path, const Vocabulary& vocabulary);

// The same, kept in files so that the next run needs neither unpacking nor counting. A file is
// found by a hash of what the texts hold.
class CachedReader {
 public:
  // `folder`: where the files go; empty: the folder .sketchgrad-cache beside the (first) text;
  // "none": no cache; ids are then in a file without a name, in the folder for temporary files
  // (TMPDIR), that is gone when nobody uses it. So are they where a cache cannot be written. `say`
  // is told of that, and of damage, in one line, and once of what is the same for several texts.
  CachedReader(std::string folder, std::function<void(const std::string&)> say);

  TrainingText read_training_text(const std::vector<std::string>& paths,
                                  const VocabularyOptions& options) const;
  TokenIds read_text(const std::string& path, const Vocabulary& vocabulary) const;

 private:
  using Paths = std::vector<std::string>;
  // `key`: what the content depends on, besides the bytes of the texts.
  std::string cache_file(const Paths& paths, const std::string& key) const;
  std::optional<TokenFile> load(const std::string& file) const;
  // write(stream, name) makes a TokenFile, at `file` or, where that cannot be, without a name.
  using WriteIds = std::function<void(std::ostream& stream, const std::string& name)>;
  TokenIds store(const std::string& file, const WriteIds& write) const;

  void go_on_without(const std::string& problem) const;

  std::string folder_;
  std::function<void(const std::string&)> say_;
  mutable std::string told_;
};

}  // namespace sketchgrad::apps
