#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "sketchgrad/apps/xc/input_settings.h"

namespace sketchgrad::apps::xc {

// Features of a text: its words, pairs of words that follow each other, and the n-grams of bytes of
// each word between a mark of its begin and one of its end, hashed to [0, feature_dim) with a seed
// of their own each.
//
// A word is a run of ASCII letters and digits and of bytes of other alphabets (0x80 and more), with
// an @ before it where there is one ("@scope/my-name" is "@scope", "my" and "name"). ASCII letters
// are taken as small ones.
class TextFeatures {
 public:
  // Throws InvalidArgument unless the settings are of text.
  explicit TextFeatures(const InputSettings& settings);

  int64_t dim() const { return settings_.feature_dim; }
  // Appends those of the text in ascending order, each as often as it stands. Concurrent calls are
  // fine.
  void append(std::string_view text, std::vector<int32_t>& features) const;

 private:
  void append_word(std::string_view marked, std::vector<int32_t>& features) const;

  InputSettings settings_;
};

}  // namespace sketchgrad::apps::xc
