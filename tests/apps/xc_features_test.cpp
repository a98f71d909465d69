#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "sketchgrad/apps/xc/feature_weights.h"
#include "sketchgrad/apps/xc/murmur3.h"
#include "sketchgrad/apps/xc/rows.h"
#include "sketchgrad/apps/xc/text_features.h"
#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps::xc {
namespace {

TEST_CASE("murmur3: published values") {
  struct Vector {
    std::string bytes;
    uint32_t seed;
    uint32_t hash;
  };
  const std::vector<Vector> vectors = {
      {"", 0, 0},
      {"", 1, 0x514E28B7},
      {"", 0xFFFFFFFF, 0x81F16F39},
      {"\xFF\xFF\xFF\xFF", 0, 0x76293B50},
      {"\x21\x43\x65\x87", 0, 0xF55B516B},
      {"\x21\x43\x65\x87", 0x5082EDEE, 0x2362F9DE},
      {"\x21\x43\x65", 0, 0x7E4A8634},
      {"\x21\x43", 0, 0xA0F7B07A},
      {"\x21", 0, 0x72661CF4},
      {std::string(4, '\0'), 0, 0x2362F9DE},
      {std::string(3, '\0'), 0, 0x85F0B427},
      {std::string(2, '\0'), 0, 0x30F4C306},
      {std::string(1, '\0'), 0, 0x514E28B7},
      {"Hello, world!", 0x9747b28c, 0x24884CBA},
      {"The quick brown fox jumps over the lazy dog", 0x9747b28c, 0x2FA826CD},
  };
  for (const Vector& vector : vectors) {
    CAPTURE(vector.bytes);
    CHECK(murmur3(vector.bytes, vector.seed) == vector.hash);
  }
}

TEST_CASE("buckets: parts of the hash's range") {
  CHECK(bucket_of(0, 10) == 0);
  CHECK(bucket_of(0xFFFFFFFF, 10) == 9);
  CHECK(bucket_of(0x80000000, 10) == 5);
  CHECK(bucket_of(0xFFFFFFFF, 0x7FFFFFFF) == 0x7FFFFFFE);
}

std::vector<int32_t> features(const InputSettings& settings, std::string_view text) {
  std::vector<int32_t> result;
  TextFeatures(settings).append(text, result);
  return result;
}

// What should come out: words and n-grams, named one by one.
std::vector<int32_t> hashed(const std::vector<std::string>& words,
                            const std::vector<std::string>& ngrams, int64_t dim) {
  std::vector<int32_t> result;
  for (const std::string& word : words) result.push_back(bucket_of(murmur3(word, 1), dim));
  for (const std::string& ngram : ngrams) result.push_back(bucket_of(murmur3(ngram, 2), dim));
  std::sort(result.begin(), result.end());
  return result;
}

TEST_CASE("text features: words") {
  const InputSettings settings{.feature_dim = 1 << 30};
  const auto check = [&](std::string_view text, const std::vector<std::string>& words) {
    CAPTURE(text);
    CHECK(features(settings, text) == hashed(words, {}, settings.feature_dim));
  };
  check("@scope/my-Name", {"@scope", "my", "name"});
  check("a@b.org @ @@x", {"a", "@b", "org", "@x"});
  check("one two  ONE", {"one", "two", "one"});
  check("snake_case2.h", {"snake", "case2", "h"});
  check("caf\xC3\xA9 \xC3\x89", {"caf\xC3\xA9", "\xC3\x89"});
  check("", {});
  check(" -./@ ", {});
}

TEST_CASE("text features: n-grams within words, with their marks") {
  InputSettings settings{.feature_dim = 1 << 30, .words = false, .char_ngrams = true};
  settings.ngrams = {3, 4};
  const std::vector<std::string> ngrams = {"<ab", "abc", "bc>", "<abc", "abc>", "<d>"};
  CHECK(features(settings, "Abc d") == hashed({}, ngrams, settings.feature_dim));
  settings.ngrams = {4, 9};
  CHECK(features(settings, "d @") == std::vector<int32_t>{});
  settings.words = true;
  CHECK(features(settings, "@ab") == hashed({"@ab"}, {"<@ab", "@ab>", "<@ab>"}, 1 << 30));
}

TEST_CASE("text features: bigrams of words") {
  const InputSettings settings{.feature_dim = 1 << 30, .words = false, .word_bigrams = true};
  std::vector<int32_t> expected;
  for (const char* pair : {"<@a><b>", "<b><cd>"}) {
    expected.push_back(bucket_of(murmur3(pair, 4), settings.feature_dim));
  }
  std::sort(expected.begin(), expected.end());
  CHECK(features(settings, "@a/B - cd") == expected);
  CHECK(features(settings, "one").empty());
  CHECK(features(settings, "").empty());
}

TEST_CASE("text features: within the dimension, ascending, appended") {
  const InputSettings settings{.feature_dim = 7, .char_ngrams = true};
  std::vector<int32_t> all = {100};
  TextFeatures(settings).append(generated_text(5, 1000), all);
  CHECK(all.size() > 100);
  CHECK(all.front() == 100);
  CHECK(std::is_sorted(all.begin() + 1, all.end()));
  CHECK(*std::min_element(all.begin(), all.end()) == 0);
  CHECK(all.back() == 6);
}

TEST_CASE("input settings: parsed, saved and loaded") {
  InputSettings settings;
  parse_features("char-ngrams,words", settings);
  CHECK(features_text(settings) == "words,char-ngrams");
  parse_features("char-ngrams", settings);
  CHECK(features_text(settings) == "char-ngrams");
  parse_features("char-ngrams,word-bigrams,words", settings);
  CHECK(features_text(settings) == "words,word-bigrams,char-ngrams");
  for (const char* wrong : {"", "word", "words,", ",words", "words char-ngrams"}) {
    CHECK_THROWS_AS(parse_features(wrong, settings), InvalidArgument);
  }
  CHECK(parse_ngrams("4").least == 4);
  CHECK(parse_ngrams("4").most == 4);
  CHECK(parse_ngrams("2-6").most == 6);
  for (const char* wrong : {"", "0", "5-3", "3-", "-3", "3-65", "a", "3-4-5", "3 - 4"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(parse_ngrams(wrong), InvalidArgument);
  }
  CHECK(parse_weighting("tf-idf") == Weighting::tf_idf);
  CHECK(parse_weighting("tf") == Weighting::tf);
  CHECK_THROWS_AS(parse_weighting("idf"), InvalidArgument);
  parse_features("words,char-ngrams", settings);
  settings.ngrams = {2, 3};
  settings.weighting = Weighting::tf_idf;
  settings.normalize = false;
  settings.feature_dim = 99;
  StateDict state;
  settings.save(state);
  const InputSettings loaded = InputSettings::load(state);
  CHECK(loaded.feature_dim == 99);
  CHECK(loaded.words);
  CHECK(loaded.char_ngrams);
  CHECK(loaded.ngrams.least == 2);
  CHECK(loaded.weighting == Weighting::tf_idf);
  CHECK_FALSE(loaded.normalize);
  CHECK(loaded.format == Format::tsv);
  state.set("input.ngrams", "x");
  CHECK_THROWS_AS(InputSettings::load(state), DataError);
  CHECK_THROWS_AS(InputSettings::load({}), DataError);

  StateDict sparse;
  InputSettings{.format = Format::xc, .feature_dim = 5, .file_features = 9, .file_classes = 3}.save(
      sparse);
  CHECK(InputSettings::load(sparse).file_features == 9);
  CHECK_THROWS_AS(TextFeatures(InputSettings::load(sparse)), InvalidArgument);
  sparse.set_integer("input.feature_dim", 10);
  CHECK_THROWS_AS(InputSettings::load(sparse), DataError);
}

TEST_CASE("feature weights: tf and tf-idf, as they are and of unit length") {
  const std::vector<int32_t> features = {0, 2, 3};
  const auto weights = [&](const FeatureWeights& of, std::vector<float> values) {
    of.apply(features, values.data());
    return values;
  };
  CHECK(weights(FeatureWeights(false), {2, 0, -3}) == std::vector<float>{2, 0, -3});
  CHECK(weights(FeatureWeights(true), {2, 0, -1.5f}) == std::vector<float>{0.8f, 0, -0.6f});
  CHECK(weights(FeatureWeights(true), {0, 0, 0}) == std::vector<float>{0, 0, 0});
  CHECK(weights(FeatureWeights(true), {3e38f, 0, 0}) == std::vector<float>{1, 0, 0});

  // Of 15 rows, features stand in 1, 15, 4 and none: 1 + 15 = 16, so that idf is 1 - log2(n) / 4.
  const std::vector<int32_t> counts = {1, 15, 4, 0};
  const FeatureWeights idf(false, counts, 15);
  CHECK(idf.idf(0) == 1);
  CHECK(idf.idf(1) == doctest::Approx(1 - std::log2(15.0) / 4));
  CHECK(idf.idf(2) == doctest::Approx(0.5));
  CHECK(idf.idf(3) == 0);
  CHECK(weights(idf, {2, 3, 7}) == std::vector<float>{2, 1.5f, 0});
  CHECK(weights(FeatureWeights(true, counts, 15), {2, 3, 7}) == std::vector<float>{0.8f, 0.6f, 0});
  CHECK_THROWS_AS(FeatureWeights(true, {}, 15), InvalidArgument);
  CHECK_THROWS_AS(FeatureWeights(true, counts, 0), InvalidArgument);
}

TEST_CASE("TSV rows: text and different labels") {
  Row row;
  std::string_view text;
  CHECK(parse_tsv("some text\tb\ta\t\tb", text, row).empty());
  CHECK(text == "some text");
  CHECK(row.names == std::vector<std::string_view>{"b", "a"});
  CHECK(parse_tsv("\t", text, row).empty());
  CHECK(text.empty());
  CHECK(row.names.empty());
  CHECK(parse_tsv("no tab \x1B here", text, row).find("'no tab ? here' has no TAB") == 0);
}

TEST_CASE("XC rows: labels, features and values") {
  const InputSettings settings{
      .format = Format::xc, .feature_dim = 10, .file_features = 10, .file_classes = 4};
  Row row;
  CHECK(parse_xc("2,0,2 9:1 1:-2.5e-1  3:4", settings, row).empty());
  CHECK(row.ids == std::vector<int32_t>{0, 2});
  CHECK(row.features == std::vector<int32_t>{1, 3, 9});
  CHECK(row.values == std::vector<float>{-0.25f, 4, 1});
  CHECK(parse_xc(" 3:1 3:2", settings, row).empty());
  CHECK(row.ids.empty());
  CHECK(row.features == std::vector<int32_t>{3});
  CHECK(row.values == std::vector<float>{3});
  CHECK(parse_xc("3", settings, row).empty());
  CHECK(row.features.empty());
  CHECK(parse_xc(" ", settings, row).empty());
  CHECK(parse_xc("0 1:0", settings, row).empty());
  CHECK(row.values == std::vector<float>{0});
  CHECK(parse_xc("0 1:3e38 1:3e38", settings, row).empty());
  CHECK(row.values == std::vector<float>{std::numeric_limits<float>::max()});
  for (const char* wrong : {"", "4 1:1", "-1 1:1", "0, 1:1", "a 1:1", "0 10:1", "0 -1:1", "0 1:nan",
                            "0 1:inf", "0 1:1e39", "0 1:", "0 :1", "0 1", "0 1:1x", "1:1 2:2",
                            "0 99999999999999999999:1", "0\t1:1", "0 1:1:1"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_xc(wrong, settings, row).empty());
  }
}

TEST_CASE("XC rows: features are hashed where there are to be less, and add up") {
  const InputSettings settings{
      .format = Format::xc, .feature_dim = 3, .file_features = 1000, .file_classes = 4};
  Row row;
  std::string line;
  for (int i = 0; i < 100; ++i) line += " " + std::to_string(7 * i) + ":1";
  CHECK(parse_xc(line, settings, row).empty());
  CHECK(row.features == std::vector<int32_t>{0, 1, 2});
  CHECK(row.values[0] + row.values[1] + row.values[2] == 100);
  CHECK(*std::min_element(row.values.begin(), row.values.end()) > 15);
}

TEST_CASE("XC header: of one or several files") {
  const TemporaryFolder folder;
  const std::string first = folder.file("a", "2 5 3\r\n0 1:1\n");
  CHECK(read_xc_header({first}).rows == 2);
  CHECK(read_xc_header({first}).features == 5);
  CHECK(read_xc_header({first, folder.file("b", "4 5 3\n")}).rows == 6);
  CHECK(read_xc_header({first, folder.file("c", "0 1:1\n")}).rows == 2);
  CHECK_THROWS_AS(read_xc_header({first, folder.file("d", "4 5 4\n")}), DataError);
  for (const char* wrong :
       {"0 1:1\n", "1 2\n", "1 2 3 4\n", "1 0 3\n", "-1 2 3\n", "1 2 9999999999"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(read_xc_header({folder.file("e", wrong)}), DataError);
  }
}

}  // namespace
}  // namespace sketchgrad::apps::xc
