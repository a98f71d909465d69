#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/xc/examples.h"
#include "sketchgrad/apps/xc/prepare.h"
#include "sketchgrad/tests/apps/support.h"
#include "sketchgrad/tests/support/file_size_bound.h"

namespace sketchgrad::apps::xc {
namespace {

namespace fs = std::filesystem;

const std::string kTsv =
    "alpha beta beta\tx\ny\tempty label\t\n\tno text\nalpha\tz\tx\tz\ngamma\t\n";
const std::string kXc = "3 6 4\n2,0 1:3 5:-4\n 0:1\n2,3\n";

// A folder with what is prepared in it.
struct Folder {
  TemporaryFolder folder;
  std::vector<std::string> said;
  Prepared last;

  Examples make(PrepareSettings settings, size_t block_bytes = kPrepareBlockBytes) {
    if (settings.output.empty()) settings.output = folder / "out.bin";
    const auto prepared = prepare(
        settings, [&](const std::string& line) { said.push_back(line); }, block_bytes);
    REQUIRE(prepared);
    last = *prepared;
    return Examples::open(settings.output);
  }
  Examples tsv(const std::string& text, PrepareSettings settings = {}) {
    settings.input = {folder.file("in.tsv", text)};
    return make(std::move(settings));
  }
  Examples xc(const std::string& text, PrepareSettings settings = {}) {
    settings.input = {folder.file("in.txt", text)};
    settings.format = "xc";
    return make(std::move(settings));
  }
  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder / ".")) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }
};

std::vector<std::string> names_of(const Examples& examples) {
  std::vector<std::string> names;
  for (int32_t id = 0; id < examples.classes(); ++id) names.push_back(examples.class_name(id));
  return names;
}

std::vector<int32_t> counts_of(const Examples& examples) {
  return {examples.class_counts().begin(), examples.class_counts().end()};
}

Batch all_of(const Examples& examples) {
  std::vector<int64_t> rows(static_cast<size_t>(examples.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  return examples.batch(rows);
}

std::vector<int32_t> ints(const Tensor& tensor) { return tensor.to_vector<int32_t>(); }

void check_near(const Tensor& tensor, const std::vector<double>& expected) {
  const std::vector<float> values = tensor.to_vector<float>();
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) {
    CHECK(static_cast<double>(values[i]) == doctest::Approx(expected[i]).epsilon(1e-6));
  }
}

TEST_CASE("prepare: text, classes by falling count and first appearance") {
  Folder folder;
  const Examples examples = folder.tsv(kTsv);
  CHECK(examples.rows() == 5);
  CHECK(names_of(examples) == std::vector<std::string>{"x", "empty label", "no text", "z"});
  CHECK(counts_of(examples) == std::vector<int32_t>{2, 1, 1, 1});
  CHECK(examples.has_class_names());
  CHECK(examples.feature_dim() == 1 << 18);

  const Batch batch = all_of(examples);
  CHECK(batch.rows() == 5);
  CHECK(ints(batch.label_begin) == std::vector<int32_t>{0, 1, 2, 3, 5, 5});
  CHECK(ints(batch.labels) == std::vector<int32_t>{0, 1, 2, 3, 0});
  CHECK(ints(batch.feature_begin) == std::vector<int32_t>{0, 2, 3, 3, 4, 5});
  // beta twice.
  std::vector<double> first = {1 / std::sqrt(5.0), 2 / std::sqrt(5.0)};
  const std::vector<int32_t> features = ints(batch.features);
  if (features[0] != features[3]) std::swap(first[0], first[1]);
  check_near(batch.weights, {first[0], first[1], 1, 1, 1});
  CHECK(std::is_sorted(features.begin(), features.begin() + 2));

  CHECK(examples.features_total() == 5);
  CHECK(examples.labels_total() == 5);
  CHECK(examples.max_features_per_row() == 2);
  CHECK(examples.max_labels_per_row() == 2);
  CHECK(folder.last.totals.without_features == 1);
  CHECK(folder.last.totals.without_labels == 1);
  CHECK(folder.files() == std::set<std::string>{"in.tsv", "out.bin"});
}

TEST_CASE("prepare: rows of a batch in any order, and none") {
  Folder folder;
  const Examples examples = folder.tsv(kTsv);
  const std::vector<int64_t> rows = {3, 0, 3};
  const Batch batch = examples.batch(rows);
  CHECK(ints(batch.labels) == std::vector<int32_t>{3, 0, 0, 3, 0});
  CHECK(ints(batch.feature_begin) == std::vector<int32_t>{0, 1, 3, 4});
  const Batch none = examples.batch({});
  CHECK(none.rows() == 0);
  CHECK(ints(none.feature_begin) == std::vector<int32_t>{0});
  for (const int64_t row : {int64_t{-1}, int64_t{5}}) {
    CHECK_THROWS_AS(examples.batch({&row, 1}), InvalidArgument);
  }
  CHECK_THROWS_AS(examples.class_name(-1), InvalidArgument);
  CHECK_THROWS_AS(examples.class_name(4), InvalidArgument);
}

TEST_CASE("prepare: a batch is data of the allocator, the file is not") {
  Folder folder;
  const Examples examples = folder.tsv(kTsv);
  const MemoryFigures before = allocator().current();
  const Batch batch = all_of(examples);
  CHECK(allocator().current().total > before.total);
  CHECK(batch.features.bytes() == 20);
}

TEST_CASE("prepare: XC files, normalized and as they are") {
  Folder folder;
  const Examples examples = folder.xc(kXc);
  CHECK(examples.classes() == 4);
  CHECK(counts_of(examples) == std::vector<int32_t>{1, 0, 2, 1});
  CHECK_FALSE(examples.has_class_names());
  CHECK(examples.class_name(3) == "3");
  CHECK(examples.feature_dim() == 6);
  const Batch batch = all_of(examples);
  CHECK(ints(batch.labels) == std::vector<int32_t>{0, 2, 2, 3});
  CHECK(ints(batch.label_begin) == std::vector<int32_t>{0, 2, 2, 4});
  CHECK(ints(batch.features) == std::vector<int32_t>{1, 5, 0});
  CHECK(ints(batch.feature_begin) == std::vector<int32_t>{0, 2, 3, 3});
  check_near(batch.weights, {0.6, -0.8, 1});
  check_near(all_of(folder.xc(kXc, {.normalize = false})).weights, {3, -4, 1});
  CHECK(folder.xc(kXc, {.hash_dim = 100}).feature_dim() == 6);
  CHECK(folder.xc(kXc, {.hash_dim = 2}).feature_dim() == 2);
}

TEST_CASE("prepare: a test set takes features and classes of the training set") {
  Folder folder;
  const std::string train = folder.folder / "train.bin";
  const Examples training = folder.tsv(
      kTsv, {.output = train, .features = "words,char-ngrams", .ngrams = "2-3", .hash_dim = 500});
  const Examples test = folder.tsv("alpha beta beta\tnew\tx\tnew\tnewer\n", {.like = train});
  CHECK(names_of(test) == names_of(training));
  CHECK(counts_of(test) == counts_of(training));
  CHECK(test.classes_checksum() == training.classes_checksum());
  CHECK(test.checksum() != training.checksum());
  const Batch batch = all_of(test);
  CHECK(ints(batch.labels) == std::vector<int32_t>{-1, 0, -1});
  CHECK(folder.last.totals.unknown_labels == 2);
  const int64_t first = 0;
  const Batch same = training.batch({&first, 1});
  CHECK(ints(batch.features) == ints(same.features));
  CHECK(batch.weights.to_vector<float>() == same.weights.to_vector<float>());
  // So do queries.
  const std::vector<std::string> queries = {"alpha beta beta", ""};
  const Batch asked = batch_of(TextFeatures(test.input()), test.feature_weights(), queries);
  CHECK(ints(asked.features) == ints(same.features));
  CHECK(asked.weights.to_vector<float>() == same.weights.to_vector<float>());
  CHECK(asked.rows() == 2);
  CHECK(asked.labels.numel() == 0);
  // Other settings, other classes.
  CHECK(folder.tsv(kTsv).classes_checksum() != training.classes_checksum());
}

TEST_CASE("prepare: tf-idf weights of the training set, in its test set and in queries too") {
  Folder folder;
  const std::string train = folder.folder / "train.bin";
  // Of seven rows, 1 + 7 = 8: idf of a feature in n of them is 1 - log2(n) / 3.
  const Examples training = folder.tsv(
      "rare often often\tx\noften some\ty\noften\tx\noften some\ty\nq\tx\nq\tx\nq q\tx\n",
      {.output = train, .weights = "tf-idf", .normalize = false});
  std::map<double, int> weights;  // of the first row, its features in the order of their hashes
  const int64_t first = 0;
  for (const float weight : training.batch({&first, 1}).weights.to_vector<float>()) {
    ++weights[static_cast<double>(weight)];
  }
  REQUIRE(weights.size() == 2);
  CHECK(weights.begin()->first == doctest::Approx(2.0 / 3));  // often, twice
  CHECK(weights.rbegin()->first == 1);
  CHECK(std::accumulate(training.feature_counts().begin(), training.feature_counts().end(), 0) ==
        1 + 4 + 2 + 3);

  const Examples test = folder.tsv("some none\tx\n", {.like = train});
  CHECK(test.classes_checksum() == training.classes_checksum());
  CHECK(std::equal(test.feature_counts().begin(), test.feature_counts().end(),
                   training.feature_counts().begin(), training.feature_counts().end()));
  std::vector<float> found = all_of(test).weights.to_vector<float>();
  const std::vector<std::string> queries = {"some none"};
  CHECK(batch_of(TextFeatures(test.input()), test.feature_weights(), queries)
            .weights.to_vector<float>() == found);
  std::sort(found.begin(), found.end());
  CHECK(found[0] == 0);  // no row of the training set has it
  CHECK(static_cast<double>(found[1]) == doctest::Approx(2.0 / 3));

  // Other counts are other inputs.
  CHECK(folder.tsv("a b\tx\n", {.weights = "tf-idf"}).classes_checksum() !=
        folder.tsv("a c\tx\n", {.weights = "tf-idf"}).classes_checksum());
}

TEST_CASE("prepare: tf-idf weights of XC files") {
  Folder folder;
  const Examples examples =
      folder.xc("3 6 4\n0 1:3 5:-4\n0 5:2\n0 0:1\n", {.weights = "tf-idf", .normalize = false});
  CHECK(std::vector<int32_t>(examples.feature_counts().begin(), examples.feature_counts().end()) ==
        std::vector<int32_t>{1, 1, 0, 0, 0, 2});
  check_near(all_of(examples).weights, {3, -2, 1, 1});
}

TEST_CASE("prepare: an XC test set") {
  Folder folder;
  const std::string train = folder.folder / "train.bin";
  const Examples training = folder.xc(kXc, {.output = train, .hash_dim = 3});
  const Examples test = folder.xc("1 6 4\n1 2:1\n", {.like = train});
  CHECK(test.classes_checksum() == training.classes_checksum());
  CHECK(test.feature_dim() == 3);
  CHECK(counts_of(test) == counts_of(training));
  // No row of the training set has class 1.
  CHECK(counts_of(training)[1] == 0);
  CHECK(ints(all_of(test).labels) == std::vector<int32_t>{-1});
  CHECK(folder.last.totals.unknown_labels == 1);
  const Examples known = folder.xc("1 6 4\n1,3 2:1\n", {.like = train});
  CHECK(counts_of(training)[3] > 0);
  CHECK(ints(all_of(known).labels) == std::vector<int32_t>{-1, 3});
  CHECK_THROWS_WITH_AS(folder.xc("1 6 5\n1 2:1\n", {.like = train}), doctest::Contains("5 classes"),
                       DataError);
  CHECK_THROWS_WITH_AS(folder.xc("1 7 4\n1 2:1\n", {.like = train}),
                       doctest::Contains("7 features"), DataError);
}

TEST_CASE("prepare: several files, packed, with ends of lines of any kind") {
  Folder folder;
  const std::string whole = folder.folder / "whole.bin";
  const Examples expected = folder.tsv("a\tx\nb\ty\nc\tx\n", {.output = whole});
  PrepareSettings settings;
  settings.input = {folder.folder.file("1.xz", xz("a\tx\r\nb\ty")),
                    folder.folder.file("2.gz", gzip("c\tx\r\n"))};
  CHECK(folder.make(settings).checksum() == expected.checksum());
  CHECK(read_whole(whole) == read_whole(folder.folder / "out.bin"));

  settings.format = "xc";
  settings.input = {folder.folder.file("1.txt", "2 5 3\n0 1:1\n"),
                    folder.folder.file("2.txt", "2 1:1")};
  CHECK(folder.make(settings).rows() == 2);
  settings.input[1] = folder.folder.file("2.txt", "1 5 3\n2 1:1");
  CHECK_THROWS_WITH_AS(folder.make(settings),
                       doctest::Contains("2 rows, where the first line says 3"), DataError);
}

// Lines with labels of skewed frequencies, some of them several.
std::string generated_lines(int64_t count, uint32_t classes) {
  std::istringstream lines(generated_text(count, classes));
  std::string text;
  int64_t i = 0;
  for (std::string line; std::getline(lines, line); ++i) {
    text += line;
    for (const std::string& part : {line.substr(0, line.find(' ')), line.substr(line.rfind('w'))}) {
      text += "\tlabel " + part;
      if (i % 3 != 0) break;
    }
    text += "\n";
  }
  return text;
}

TEST_CASE("prepare: any number of threads and any blocks give the same bytes") {
  Folder folder;
  PrepareSettings settings;
  settings.features = "words,char-ngrams";
  settings.weights = "tf-idf";
  settings.input = {folder.folder.file("in.tsv", generated_lines(3000, 2000))};
  settings.output = folder.folder / "a.bin";
  folder.make(settings);
  const std::string expected = read_whole(settings.output);
  settings.output = folder.folder / "b.bin";
  for (const size_t threads : {1, 2, 4}) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    for (const size_t bytes : {1, 100, 5000, 1 << 20}) {
      if (bytes == 1 && threads == 4) continue;
      CAPTURE(bytes);
      folder.make(settings, bytes);
      CHECK(read_whole(settings.output) == expected);
    }
  }
}

TEST_CASE("prepare: ids and counts as a transcription has them") {
  Folder folder;
  const std::string text = generated_lines(2000, 700);
  const Examples examples = folder.tsv(text);
  std::vector<std::string> names;  // by first appearance
  std::map<std::string, int64_t> counts;
  std::vector<std::set<std::string>> labels;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string field;
    std::getline(fields, field, '\t');
    labels.emplace_back();
    while (std::getline(fields, field, '\t')) {
      if (!labels.back().insert(field).second) continue;
      if (counts[field]++ == 0) names.push_back(field);
    }
  }
  std::stable_sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return counts[a] > counts[b];
  });
  CHECK(names_of(examples) == names);
  for (size_t i = 0; i < names.size(); ++i) CHECK(examples.class_counts()[i] == counts[names[i]]);
  const Batch batch = all_of(examples);
  const std::vector<int32_t> begin = ints(batch.label_begin);
  const std::vector<int32_t> ids = ints(batch.labels);
  REQUIRE(examples.rows() == static_cast<int64_t>(labels.size()));
  for (size_t row = 0; row < labels.size(); ++row) {
    std::set<std::string> read;
    for (int32_t i = begin[row]; i < begin[row + 1]; ++i) {
      read.insert(names[static_cast<size_t>(ids[static_cast<size_t>(i)])]);
    }
    CHECK(read == labels[row]);
  }
}

TEST_CASE("prepare: malformed lines are fatal with file and line, or skipped and told of") {
  Folder folder;
  const std::string good = folder.folder.file("good", "a\tx\n");
  std::string text;
  for (int i = 1; i <= 20; ++i) text += i % 2 == 0 ? "malformed\n" : "b\ty\n";
  PrepareSettings settings;
  settings.input = {good, folder.folder.file("bad", text)};
  for (const size_t bytes : {1, 40, 1000}) {
    try {
      folder.make(settings, bytes);
      FAIL("a malformed line was taken");
    } catch (const DataError& error) {
      CHECK(error.file() == folder.folder / "bad");
      CHECK(error.line() == 2);
    }
    CHECK(folder.files() == std::set<std::string>{"good", "bad"});
  }
  settings.malformed = "skip";
  for (const size_t bytes : {1, 40, 1000}) {
    folder.said.clear();
    const Examples examples = folder.make(settings, bytes);
    CHECK(examples.rows() == 11);
    CHECK(folder.last.malformed == 10);
    REQUIRE(folder.said.size() == 5);
    CHECK(folder.said[4].find("bad:10: ") != std::string::npos);
  }
  settings.input = {folder.folder.file("all bad", "x\ny\n")};
  CHECK_THROWS_WITH_AS(folder.make(settings), doctest::Contains("no line is a row"), DataError);

  const std::string second = "1 6 4\n0 0:1\n1 6 4\n";
  CHECK_THROWS_WITH_AS(folder.xc(second), doctest::Contains("in.txt:3: "), DataError);
  CHECK_THROWS_WITH_AS(folder.xc("1 6 4\n0 6:1\n"), doctest::Contains("feature 6 is outside"),
                       DataError);
  CHECK_THROWS_WITH_AS(folder.xc("2 6 4\n0 0:1\n"), doctest::Contains("first line says 2"),
                       DataError);
  CHECK(folder.xc("2 6 4\n0 0:1\n7 0:1\n", {.malformed = "skip"}).rows() == 1);
}

TEST_CASE("prepare: refuses outputs and inputs that cannot be") {
  Folder folder;
  PrepareSettings settings;
  settings.input = {folder.folder.file("in", "a\tx\n")};
  settings.output = settings.input[0];
  CHECK_THROWS_WITH_AS(folder.make(settings), doctest::Contains("is an input"), InvalidArgument);
  CHECK(read_whole(settings.output) == "a\tx\n");
  settings.output = folder.folder / "none/out";
  CHECK_THROWS_AS(folder.make(settings), IoError);
  settings.output = folder.folder / "out";
  settings.input.push_back(folder.folder / "missing");
  CHECK_THROWS_AS(folder.make(settings), DataError);
  settings.input[1] = "/dev/zero";
  CHECK_THROWS_AS(folder.make(settings), DataError);
  settings.input.pop_back();
  settings.like = settings.input[0];
  CHECK_THROWS_AS(folder.make(settings), DataError);
  settings.like.clear();
  settings.features = "letters";
  CHECK_THROWS_AS(folder.make(settings), InvalidArgument);
  CHECK(folder.files() == std::set<std::string>{"in"});
}

TEST_CASE("prepare: a full disk is IoError, and what was there stays") {
  Folder folder;
  PrepareSettings settings;
  settings.input = {folder.folder.file("in", generated_lines(2000, 500))};
  settings.output = folder.folder.file("out.bin", "before");
  for (const rlim_t bytes : {0, 100, 5000, 20'000, 30'000, 60'000, 90'000}) {
    CAPTURE(bytes);
    const test::FileSizeBound bound(bytes);
    CHECK_THROWS_AS(folder.make(settings), IoError);
    CHECK(folder.files() == std::set<std::string>{"in", "out.bin"});
    CHECK(read_whole(settings.output) == "before");
  }
  folder.make(settings);
  CHECK(fs::file_size(settings.output) > 90'000);
}

TEST_CASE("prepare: a signal ends it without a trace") {
  Folder folder;
  PrepareSettings settings;
  settings.input = {folder.folder.file("in", kTsv)};
  settings.output = folder.folder / "out.bin";
  {
    const StopSignal stop;
    std::raise(SIGINT);
    CHECK_FALSE(prepare(settings, {}));
  }
  const StopSignal forgotten;
  CHECK(folder.files() == std::set<std::string>{"in"});
}

// The file without its header, which names what of it is where.
constexpr size_t kHeader = 4096;

TEST_CASE("examples: cut files and damaged headers and counts are refused") {
  Folder folder;
  folder.tsv(kTsv);
  const std::string whole = read_whole(folder.folder / "out.bin");
  const auto open = [&](const std::string& content) {
    return Examples::open(folder.folder.file("damaged", content));
  };
  CHECK(open(whole).rows() == 5);
  for (size_t length = 0; length < whole.size(); length += length < 4000 ? 97 : 1) {
    CHECK_THROWS_AS(open(whole.substr(0, length)), DataError);
  }
  const size_t text_end = whole.find_last_not_of(' ', kHeader - 1);
  for (size_t i = 0; i <= text_end; ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    CAPTURE(i);
    CHECK_THROWS_AS(open(damaged), DataError);
  }
  const size_t counts = kHeader + 8 * (5 + 1) + 8 * (4 + 1);
  for (size_t i = counts; i < counts + 16; ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    CHECK_THROWS_AS(open(damaged), DataError);
  }
  folder.tsv("a\tx\n", {.hash_dim = 3, .weights = "tf-idf"});
  const std::string weighted = read_whole(folder.folder / "out.bin");
  const size_t feature_counts = kHeader + 8 * 2 + 8 * 2 + 4 + 4;
  for (size_t i = feature_counts; i < feature_counts + 12; ++i) {
    std::string damaged = weighted;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    CHECK_THROWS_AS(open(damaged), DataError);
  }
  CHECK_THROWS_AS(Examples::open(folder.folder / "missing"), DataError);
  StateDict other;
  other.set("a", "b");
  save_safetensors(folder.folder / "other", other);
  CHECK_THROWS_WITH_AS(Examples::open(folder.folder / "other"),
                       doctest::Contains("no file of examples"), DataError);
}

TEST_CASE("examples: begins that are far outside are refused") {
  Folder folder;
  folder.tsv(kTsv);
  const std::string whole = read_whole(folder.folder / "out.bin");
  // The begins come first. Their difference as numbers of 64 bits would be a small one.
  for (const auto& [first, end] :
       {std::pair(int64_t{1} << 62, int64_t{3} - (int64_t{1} << 62)),
        std::pair(int64_t{1} << 62, (int64_t{1} << 62) + 5), std::pair(int64_t{-5}, int64_t{0}),
        std::pair(int64_t{5}, int64_t{0})}) {
    std::string damaged = whole;
    std::memcpy(damaged.data() + kHeader, &first, sizeof(first));
    std::memcpy(damaged.data() + kHeader + sizeof(first), &end, sizeof(end));
    const Examples examples = Examples::open(folder.folder.file("damaged", damaged));
    const int64_t row = 0;
    CHECK_THROWS_WITH_AS(examples.batch({&row, 1}), doctest::Contains("row 0 is damaged"),
                         DataError);
  }
}

TEST_CASE("examples: damaged rows and names are refused or of the right form") {
  Folder folder;
  for (const bool sparse : {false, true}) {
    sparse ? folder.xc(kXc) : folder.tsv(kTsv);
    const std::string whole = read_whole(folder.folder / "out.bin");
    int refused = 0;
    for (size_t i = kHeader; i < whole.size(); ++i) {
      for (const int bits : {1, 0x80, 0xFF}) {
        std::string damaged = whole;
        damaged[i] = static_cast<char>(damaged[i] ^ bits);
        CAPTURE(i);
        try {
          const Examples examples = Examples::open(folder.folder.file("damaged", damaged));
          const Batch batch = all_of(examples);
          for (const int32_t label : ints(batch.labels)) {
            CHECK(label >= -1);
            CHECK(label < examples.classes());
          }
          for (const int32_t feature : ints(batch.features)) {
            CHECK(feature >= 0);
            CHECK(feature < examples.feature_dim());
          }
          names_of(examples);
        } catch (const DataError&) {
          ++refused;
        }
      }
    }
    CHECK(refused > 100);
  }
}

TEST_CASE("examples: whoever reads safetensors reads the file") {
  Folder folder;
  folder.tsv("a a\tx\n");
  const StateDict state = load_safetensors(folder.folder / "out.bin");
  CHECK(state.tensors.at("begin").to_vector<int64_t>() == std::vector<int64_t>{0, 5});
  const std::vector<int32_t> row = ints(state.tensors.at("rows"));
  REQUIRE(row.size() == 5);
  CHECK(row[0] == 1);
  CHECK(row[1] == 2);
  CHECK(row[2] == 0);
  CHECK(row[3] == row[4]);
  CHECK(ints(state.tensors.at("class.count")) == std::vector<int32_t>{1});
  CHECK(ints(state.tensors.at("class.names")) == std::vector<int32_t>{'x'});
}

TEST_CASE("prepare: options") {
  PrepareSettings settings;
  CLI::App app;
  add_options(app, settings);
  app.parse(
      "--input a b --input c --output o --features words,char-ngrams --ngrams 2-3 "
      "--hash-dim 10 --weights tf-idf --no-normalize --malformed skip --format xc --threads 2");
  CHECK(settings.input == std::vector<std::string>{"a", "b", "c"});
  CHECK(settings.features == "words,char-ngrams");
  CHECK(settings.hash_dim == 10);
  CHECK(settings.weights == "tf-idf");
  CHECK_FALSE(settings.normalize);
  CHECK(settings.malformed == "skip");
  CHECK(settings.compute.threads == 2);
  for (const char* wrong :
       {"--input a", "--output o", "--input a --output o --like l --hash-dim 5",
        "--input a --output o --format csv", "--input a --output o --hash-dim 0"}) {
    CLI::App other;
    PrepareSettings ignored;
    add_options(other, ignored);
    CHECK_THROWS_AS(other.parse(wrong), CLI::ParseError);
  }
}

}  // namespace
}  // namespace sketchgrad::apps::xc
