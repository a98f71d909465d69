#pragma once

#include <cstdint>
#include <string>

#include "sketchgrad/framework/checkpoint.h"

namespace sketchgrad::apps::xc {

enum class Format : uint8_t { tsv, xc };
std::string format_text(Format);

// Lengths of n-grams in bytes, first and last.
struct NgramLengths {
  int64_t least = 3;
  int64_t most = 5;
};

// What a feature weighs in a row: tf, its count in the text or its value in the file; tf_idf, that
// times how rare the feature is in the training set (FeatureWeights).
enum class Weighting : uint8_t { tf, tf_idf };
std::string weighting_text(Weighting);

// How lines become features. A test set and the queries of a prediction share those of the training
// set, so they are kept with it.
struct InputSettings {
  Format format = Format::tsv;
  // Features are in [0, feature_dim).
  int64_t feature_dim = int64_t{1} << 18;
  // Of text, at least one of them.
  bool words = true;
  bool word_bigrams = false;
  bool char_ngrams = false;
  NgramLengths ngrams = {};
  // Of XC files: what their first line says. Features are hashed where feature_dim is less than
  // theirs.
  int64_t file_features = 0;
  int64_t file_classes = 0;
  Weighting weighting = Weighting::tf;
  bool normalize = true;  // rows are scaled to unit length

  // Entries input.*; load throws DataError where they are missing or make no sense.
  void save(StateDict& state) const;
  static InputSettings load(const StateDict& state);
};

// "words", "word-bigrams", "char-ngrams" or several of them, in this order with commas between.
std::string features_text(const InputSettings& settings);
// Throw InvalidArgument for anything else: into the three kinds, in any order; "tf" or "tf-idf";
// "3-5" or "4".
void parse_features(const std::string& text, InputSettings& settings);
Weighting parse_weighting(const std::string& text);
NgramLengths parse_ngrams(const std::string& text);
std::string ngrams_text(const NgramLengths& lengths);

}  // namespace sketchgrad::apps::xc
