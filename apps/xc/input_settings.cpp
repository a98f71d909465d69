#include "sketchgrad/apps/xc/input_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>
#include <string_view>

namespace sketchgrad::apps::xc {

namespace {

constexpr int64_t kMostDim = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostNgram = 64;

struct Kind {
  std::string_view name;
  bool InputSettings::*chosen;
};
constexpr Kind kKinds[] = {{"words", &InputSettings::words},
                           {"word-bigrams", &InputSettings::word_bigrams},
                           {"char-ngrams", &InputSettings::char_ngrams}};

// -1 where the text is no number.
int64_t parse_length(std::string_view text) {
  int64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem == std::errc() && end == text.data() + text.size() ? value : -1;
}

bool in_range(int64_t value, int64_t least) { return value >= least && value <= kMostDim; }

InputSettings load_unchecked(const StateDict& state) {
  InputSettings settings;
  const std::string& format = state.text("input.format");
  check(format == "tsv" || format == "xc", "\"input.format\" is \"{}\"", format);
  settings.format = format == "tsv" ? Format::tsv : Format::xc;
  settings.feature_dim = state.integer("input.feature_dim");
  check(in_range(settings.feature_dim, 1), "\"input.feature_dim\" is {}", settings.feature_dim);
  if (settings.format == Format::tsv) {
    parse_features(state.text("input.features"), settings);
    settings.ngrams = parse_ngrams(state.text("input.ngrams"));
  } else {
    settings.file_features = state.integer("input.file_features");
    settings.file_classes = state.integer("input.file_classes");
    check(in_range(settings.file_features, settings.feature_dim), "\"input.file_features\" is {}",
          settings.file_features);
    check(in_range(settings.file_classes, 1), "\"input.file_classes\" is {}",
          settings.file_classes);
  }
  settings.weighting = parse_weighting(state.text("input.weights"));
  settings.normalize = state.integer("input.normalize") != 0;
  return settings;
}

}  // namespace

std::string format_text(Format format) { return format == Format::tsv ? "tsv" : "xc"; }

std::string weighting_text(Weighting weighting) {
  return weighting == Weighting::tf ? "tf" : "tf-idf";
}

Weighting parse_weighting(const std::string& text) {
  check(text == "tf" || text == "tf-idf", "--weights: {} is none of tf, tf-idf", text);
  return text == "tf" ? Weighting::tf : Weighting::tf_idf;
}

std::string features_text(const InputSettings& settings) {
  std::string text;
  for (const Kind& kind : kKinds) {
    if (settings.*kind.chosen) text += (text.empty() ? "" : ",") + std::string(kind.name);
  }
  return text;
}

void parse_features(const std::string& text, InputSettings& settings) {
  for (const Kind& kind : kKinds) settings.*kind.chosen = false;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    const auto* const kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                          [&](const Kind& any) { return any.name == name; });
    check(kind != std::end(kKinds),
          "--features: '{}' is not a kind of features; they are words, word-bigrams, char-ngrams",
          name);
    settings.*kind->chosen = true;
    begin = end + 1;
  }
}

NgramLengths parse_ngrams(const std::string& text) {
  const size_t dash = text.find('-');
  NgramLengths lengths;
  lengths.least = parse_length(std::string_view(text).substr(0, dash));
  lengths.most = dash == std::string::npos ? lengths.least
                                           : parse_length(std::string_view(text).substr(dash + 1));
  check(lengths.least >= 1 && lengths.least <= lengths.most && lengths.most <= kMostNgram,
        "--ngrams: '{}' must be a length from 1 to {} or two, as in 3-5", text, kMostNgram);
  return lengths;
}

std::string ngrams_text(const NgramLengths& lengths) {
  return fmt::format("{}-{}", lengths.least, lengths.most);
}

void InputSettings::save(StateDict& state) const {
  state.set("input.format", format_text(format));
  state.set_integer("input.feature_dim", feature_dim);
  if (format == Format::tsv) {
    state.set("input.features", features_text(*this));
    state.set("input.ngrams", ngrams_text(ngrams));
  } else {
    state.set_integer("input.file_features", file_features);
    state.set_integer("input.file_classes", file_classes);
  }
  state.set("input.weights", weighting_text(weighting));
  state.set_integer("input.normalize", normalize ? 1 : 0);
}

InputSettings InputSettings::load(const StateDict& state) {
  try {
    return load_unchecked(state);
  } catch (const InvalidArgument& error) {
    throw DataError(state.source, 0, error.what());
  }
}

}  // namespace sketchgrad::apps::xc
