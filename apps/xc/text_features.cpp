#include "sketchgrad/apps/xc/text_features.h"

#include <algorithm>
#include <string>

#include "sketchgrad/apps/xc/murmur3.h"

namespace sketchgrad::apps::xc {

namespace {

// Part of what a prepared file is; so are the marks, which no word holds.
constexpr uint32_t kWordSeed = 1;
constexpr uint32_t kNgramSeed = 2;
constexpr uint32_t kBigramSeed = 4;
constexpr char kBegin = '<';
constexpr char kEnd = '>';

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         static_cast<unsigned char>(c) >= 0x80;
}

char to_small(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

TextFeatures::TextFeatures(const InputSettings& settings) : settings_(settings) {
  check(settings.format == Format::tsv && !features_text(settings).empty(),
        "[features] rows of a file in format {} are no text", format_text(settings.format));
}

void TextFeatures::append(std::string_view text, std::vector<int32_t>& features) const {
  const size_t first = features.size();
  thread_local std::string marked, pair;
  pair.clear();
  for (size_t i = 0; i < text.size();) {
    if (!is_letter(text[i])) {
      ++i;
      continue;
    }
    marked.assign(1, kBegin);
    if (i > 0 && text[i - 1] == '@') marked.push_back('@');
    for (; i < text.size() && is_letter(text[i]); ++i) marked.push_back(to_small(text[i]));
    marked.push_back(kEnd);
    append_word(marked, features);
    if (settings_.word_bigrams) {
      const bool begins = pair.empty();
      pair += marked;
      if (!begins) features.push_back(bucket_of(murmur3(pair, kBigramSeed), settings_.feature_dim));
      pair = marked;
    }
  }
  std::sort(features.begin() + static_cast<std::ptrdiff_t>(first), features.end());
}

void TextFeatures::append_word(std::string_view marked, std::vector<int32_t>& features) const {
  const auto add = [&](std::string_view bytes, uint32_t seed) {
    features.push_back(bucket_of(murmur3(bytes, seed), settings_.feature_dim));
  };
  if (settings_.words) add(marked.substr(1, marked.size() - 2), kWordSeed);
  if (!settings_.char_ngrams) return;
  const auto most = std::min(static_cast<size_t>(settings_.ngrams.most), marked.size());
  for (auto length = static_cast<size_t>(settings_.ngrams.least); length <= most; ++length) {
    for (size_t i = 0; i + length <= marked.size(); ++i) {
      add(marked.substr(i, length), kNgramSeed);
    }
  }
}

}  // namespace sketchgrad::apps::xc
