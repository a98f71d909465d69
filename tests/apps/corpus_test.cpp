#include "sketchgrad/apps/common/corpus.h"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <tbb/global_control.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/text_blocks.h"
#include "sketchgrad/tests/apps/support.h"
#include "sketchgrad/tests/support/file_size_bound.h"

namespace sketchgrad::apps {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> words_of(const Vocabulary& vocabulary) {
  std::vector<std::string> words;
  for (int32_t id = 0; id < vocabulary.size(); ++id) words.push_back(vocabulary.word(id));
  return words;
}

std::vector<std::string> decoded(const TokenIds& ids, const Vocabulary& vocabulary) {
  std::vector<std::string> words;
  for (const int32_t id : ids.to_vector()) words.push_back(vocabulary.word(id));
  return words;
}

TEST_CASE("corpus: every line gives its tokens and <eos>, ids go by frequency") {
  const TemporaryFolder folder;
  const TrainingText text = read_training_text({folder.file("t", " \n b a\tb \n\nc b a\n")}, {});
  // <eos> 4, b 3, a 2, c 1, <unk> never.
  CHECK(words_of(text.vocabulary) == std::vector<std::string>{"<eos>", "b", "a", "c", "<unk>"});
  CHECK(text.ids.to_vector() == std::vector<int32_t>{0, 1, 2, 1, 0, 0, 3, 1, 2, 0});
}

TEST_CASE("corpus: equal frequencies go by first appearance") {
  const TemporaryFolder folder;
  const TrainingText text = read_training_text({folder.file("t", "d c b a")}, {});
  CHECK(words_of(text.vocabulary) ==
        std::vector<std::string>{"d", "c", "b", "a", "<eos>", "<unk>"});
}

TEST_CASE("corpus: rare words become <unk>, which counts with them") {
  const TemporaryFolder folder;
  const TrainingText text =
      read_training_text({folder.file("t", "a a x y <unk>\na z")}, {.min_count = 2});
  // <unk> 4 (x, y, itself, z), a 3, <eos> 2.
  CHECK(words_of(text.vocabulary) == std::vector<std::string>{"<unk>", "a", "<eos>"});
  CHECK(decoded(text.ids, text.vocabulary) == std::vector<std::string>{"a", "a", "<unk>", "<unk>",
                                                                       "<unk>", "<eos>", "a",
                                                                       "<unk>", "<eos>"});
}

TEST_CASE("corpus: <eos> stays however rare it is") {
  const TemporaryFolder folder;
  const TrainingText text = read_training_text({folder.file("t", "a a a")}, {.min_count = 3});
  CHECK(words_of(text.vocabulary) == std::vector<std::string>{"a", "<eos>", "<unk>"});
}

TEST_CASE("corpus: other texts take the vocabulary as it is") {
  const TemporaryFolder folder;
  const Vocabulary vocabulary = read_training_text({folder.file("t", "a b")}, {}).vocabulary;
  const TokenIds ids = read_text(folder.file("v", "b new a\n"), vocabulary);
  CHECK(decoded(ids, vocabulary) == std::vector<std::string>{"b", "<unk>", "a", "<eos>"});
}

// What a text is, transcribed from the description at the top of corpus.h.
struct Reference {
  std::vector<std::string> words;
  std::vector<int32_t> ids;
};

Reference reference(const std::vector<std::string>& texts, int64_t min_count) {
  std::vector<std::string> tokens;
  for (const std::string& text : texts) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      for (std::string word; words >> word;) tokens.push_back(word);
      tokens.emplace_back("<eos>");
    }
  }
  std::map<std::string, int64_t> counts;
  for (const std::string& token : tokens) ++counts[token];
  for (std::string& token : tokens) {
    if (token != "<eos>" && counts[token] < min_count) token = "<unk>";
  }
  tokens.emplace_back("<unk>");
  std::map<std::string, std::pair<int64_t, size_t>> order;  // minus the count, first appearance
  for (size_t i = 0; i < tokens.size(); ++i) {
    auto& [count, first] = order.try_emplace(tokens[i], 0, i).first->second;
    --count;
  }
  ++order["<unk>"].first;  // for the one that was added
  tokens.pop_back();
  Reference result;
  for (const auto& [word, rank] : order) result.words.push_back(word);
  std::sort(result.words.begin(), result.words.end(),
            [&](const auto& a, const auto& b) { return order[a] < order[b]; });
  std::map<std::string, int32_t> ids;
  for (const std::string& word : result.words) ids.emplace(word, static_cast<int32_t>(ids.size()));
  for (const std::string& token : tokens) result.ids.push_back(ids[token]);
  return result;
}

// Words of skewed frequencies between white space of all kinds.
std::string wild_text(uint32_t seed, int pieces) {
  const char* spaces[] = {" ", "\n", "\r\n", "\t ", "\n\n", "\v\f", " \n ", " \r "};
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < pieces; ++i) {
    const uint32_t rank = random() % (1 + random() % 300);
    text += rank == 7 ? "<unk>" : rank == 9 ? "<eos>" : "w" + std::to_string(rank);
    if (rank % 50 == 49) text += std::string(random() % 200, 'x');
    text += spaces[random() % 3 == 0 ? random() % 8 : 0];
  }
  return text;
}

TEST_CASE("corpus: the same as a plain reference, on several texts") {
  const TemporaryFolder folder;
  for (const uint32_t seed : {1, 2, 3, 4}) {
    const std::vector<std::string> texts = {wild_text(seed, 500), wild_text(seed + 10, 1) + "z",
                                            "\n", wild_text(seed + 20, 2000) + "\n"};
    const std::vector<std::string> paths = {
        folder.file("a", texts[0]), folder.file("b.gz", gzip(texts[1])), folder.file("c", texts[2]),
        folder.file("d.xz", xz(texts[3]))};
    for (const int64_t min_count : {1, 3, 10}) {
      const Reference expected = reference(texts, min_count);
      const TrainingText text = read_training_text(paths, {.min_count = min_count});
      CHECK(words_of(text.vocabulary) == expected.words);
      CHECK(text.ids.to_vector() == expected.ids);
      CHECK(text.most_dropped == 0);
    }
  }
}

TEST_CASE("corpus: blocks of any size give the same counts") {
  const TemporaryFolder folder;
  const std::string text = wild_text(1, 3000);
  const std::string path = folder.file("t", text);
  const Reference expected = reference({text}, 2);
  for (const size_t bytes : {1, 7, 100, 5000, 1'000'000}) {
    CAPTURE(bytes);
    TextsReader texts({path}, bytes);
    WordCounter counter({.min_count = 2});
    for_each_block<BlockWords>(
        texts, "test", [](const std::string& block, BlockWords& words) { words.count(block); },
        [&](const BlockWords& words) { counter.add(words); });
    CHECK(words_of(counter.vocabulary()) == expected.words);
    CHECK(counter.tokens() == static_cast<int64_t>(expected.ids.size()));
  }
}

// Of several turns of blocks.
std::string long_text() { return generated_text(400'000, 30'000); }

TEST_CASE("corpus: one and two threads write the same bytes, with dropped words, too") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", long_text());
  REQUIRE(std::filesystem::file_size(path) > 2 * kTurnBlocks * TextReader::kBlockBytes);
  for (const int64_t most_words : {1000, 1 << 24}) {
    std::vector<std::string> written;
    for (const size_t threads : {1, 2, 4}) {
      const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
      const std::string cache = folder / std::to_string(threads) + std::to_string(most_words);
      const TrainingText text = CachedReader(cache, {}).read_training_text(
          {path}, {.min_count = 3, .most_words = most_words});
      CHECK((text.most_dropped > 0) == (most_words == 1000));
      written.push_back(read_whole(fs::directory_iterator(cache)->path().string()));
    }
    CHECK(written[0] == written[1]);
    CHECK(written[0] == written[2]);
  }
}

TEST_CASE("corpus: neither the text nor the ids are in the allocator's memory") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", long_text());
  allocator().release_cached();
  allocator().reset_peak();
  const int64_t before = allocator().current().total;
  const TrainingText text = read_training_text({path}, {});
  CHECK(text.ids.size() > 2'000'000);
  CHECK(allocator().current().total == before);
  // The words, on their way into the file.
  CHECK(allocator().peak().total - before < 16 * text.vocabulary.size());
}

TEST_CASE("corpus: what is wrong with one of several files is told of that file") {
  const TemporaryFolder folder;
  const std::string good = folder.file("good", "a b\n");
  const auto problem = [&](const std::string& bad) {
    try {
      read_training_text({good, bad, good}, {});
    } catch (const DataError& error) {
      CHECK(error.file() == bad);
      return error.line();
    }
    return int64_t{-1};
  };
  CHECK(problem(folder / "missing") == 0);
  CHECK(problem(folder.file("empty", "")) == 0);
  CHECK(problem(folder.file("bad.xz", "no xz")) == 0);
  CHECK(problem(folder.file("nul", std::string("a\nb\n\0", 5))) == 3);
  CHECK(problem("/dev/zero") == 0);  // cannot be read twice
}

TEST_CASE("corpus: without a cache nothing is left in the folder for temporary files") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", "a b a\n");
  const std::string temporary = folder / "tmp";
  fs::create_directory(temporary);
  const char* before = std::getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("TMPDIR", temporary.c_str(), 1);
  const TrainingText text = read_training_text({path}, {});
  CHECK(fs::is_empty(temporary));
  CHECK(text.ids.to_vector() == std::vector<int32_t>{0, 1, 0, 2});
  fs::remove_all(temporary);
  CHECK(text.ids.to_vector() == std::vector<int32_t>{0, 1, 0, 2});
  CHECK_THROWS_WITH_AS(read_training_text({path}, {}), doctest::Contains("TMPDIR"), IoError);
  before == nullptr ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", kept.c_str(), 1);
}

TEST_CASE("corpus: a full disk is IoError, and leaves nothing half-written") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", generated_text(3000, 1000));
  std::vector<std::string> said;
  const CachedReader reader(folder / "cache",
                            [&](const std::string& line) { said.push_back(line); });
  for (const rlim_t bytes : {0, 100, 5000, 50'000, 80'000}) {
    CAPTURE(bytes);
    const test::FileSizeBound bound(bytes);
    CHECK_THROWS_AS(reader.read_training_text({path}, {}), IoError);
    CHECK(fs::is_empty(folder / "cache"));
  }
  // It would have gone on without a cache, had there been room elsewhere. That is told once.
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("File too large") != std::string::npos);
  CHECK(reader.read_training_text({path}, {}).ids.size() * 4 > 80'000);
}

TEST_CASE("word table: places in order of insertion, also after clearing") {
  WordTable table;
  CHECK(table.find("a") == WordTable::kNone);
  std::vector<std::string> words;
  for (int i = 0; i < 3000; ++i) words.push_back("w" + std::to_string(i * 7919));
  for (const size_t count : {3000, 10, 2000}) {
    CAPTURE(count);
    table.clear();
    bool right = true;
    for (int repeat = 0; repeat < 2; ++repeat) {
      for (size_t i = 0; i < count; ++i) right = right && table.insert(words[i]) == i;
    }
    for (size_t i = 0; i < words.size(); ++i) {
      right = right && table.find(words[i]) == (i < count ? i : WordTable::kNone);
    }
    CHECK(right);
    CHECK(table.size() == count);
    CHECK(table.word(5) == words[5]);
  }
  CHECK(table.insert("") == 2000);
  CHECK(table.find("") == 2000);
}

TEST_CASE("lossy counting: drops only rare words, and counts the others nearly right") {
  const std::string text = wild_text(5, 200'000);
  std::map<std::string, int64_t> counts;
  for_each_token(text, [&](std::string_view word) { ++counts[std::string(word)]; });
  for (const int64_t most_words : {20, 100, 250}) {
    CAPTURE(most_words);
    REQUIRE(most_words < static_cast<int64_t>(counts.size()));
    constexpr int64_t kMin = 50;
    WordCounter counter({.min_count = kMin, .most_words = most_words});
    BlockWords words;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find(' ', begin + 1000);
      words.count(std::string_view(text).substr(begin, end - begin));
      counter.add(words);
      begin = std::min(end, text.size());
    }
    const int64_t bound = counter.most_dropped();
    CHECK(bound > 0);
    const Vocabulary vocabulary = counter.vocabulary();
    CHECK(vocabulary.size() <= most_words + 1);
    CHECK(vocabulary.contains("<eos>"));
    for (const auto& [word, count] : counts) {
      CAPTURE(word);
      if (count >= kMin + bound) CHECK(vocabulary.contains(word));
      if (count < kMin && word != "<unk>" && word != "<eos>")
        CHECK_FALSE(vocabulary.contains(word));
    }
  }
  CHECK_THROWS_AS(WordCounter({.most_words = 1}), InvalidArgument);
}

TEST_CASE("lossy counting: exact up to the bound") {
  WordCounter counter({.most_words = 4});
  BlockWords words;
  words.count("a b b\n c c c");
  counter.add(words);
  CHECK(counter.most_dropped() == 0);
  CHECK(words_of(counter.vocabulary()) ==
        std::vector<std::string>{"c", "b", "a", "<eos>", "<unk>"});
  words.count("d d d d");
  counter.add(words);
  // a and b had to go, for half of the words to stay; the end of a line never goes.
  CHECK(counter.most_dropped() == 2);
  CHECK(words_of(counter.vocabulary()) == std::vector<std::string>{"d", "<unk>", "c", "<eos>"});
}

TEST_CASE("token ids: of a tensor, or of a file that is made front to back") {
  const TemporaryFolder folder;
  const std::vector<int32_t> values = {3, 1, 4, 1, 5};
  const TokenIds tensor(Tensor::from(values, {5}, {Category::data, "ids"}));
  CHECK(tensor.to_vector() == values);
  StateDict with;
  with.tensors["x"] = Tensor::from<int32_t>({7}, {1}, {Category::data, "x"});
  with.set("key", "text");
  const std::string path = folder / "ids";
  {
    std::ofstream stream(path, std::ios::binary);
    TokenFileWriter writer(stream, path);
    writer.add(std::span(values).first(2));
    writer.add({});
    writer.add(std::span(values).subspan(2));
    CHECK(writer.tokens() == 5);
    writer.finish(with);
  }
  const TokenFile file = open_token_file(path);
  CHECK(file.ids.to_vector() == values);
  CHECK(file.ids.checksum() == tensor.checksum());
  CHECK(file.with.text("key") == "text");
  CHECK(file.with.tensors.at("x").to_vector<int32_t>() == std::vector<int32_t>{7});
  // Whoever reads safetensors reads it.
  CHECK(load_safetensors(path).tensors.at("ids").to_vector<int32_t>() == values);
}

TEST_CASE("vocabulary: any bytes go through a state dictionary") {
  const Vocabulary vocabulary({"<eos>", "\xFF\x80", "caf\xC3\xA9", "<unk>", "x"});
  StateDict state;
  vocabulary.save(state, "v.");
  CHECK(words_of(Vocabulary::load(state, "v.")) == words_of(vocabulary));
  CHECK(Vocabulary::load(state, "v.").checksum() == vocabulary.checksum());
  CHECK_THROWS_AS(Vocabulary::load(state, "w."), DataError);
  state.set_integer("v.words.bytes", 1000);
  CHECK_THROWS_AS(Vocabulary::load(state, "v."), DataError);
  CHECK_THROWS_AS(Vocabulary({"<eos>", "<unk>", "a", "a"}), InvalidArgument);
  CHECK_THROWS_AS(Vocabulary({"<eos>", "a"}), InvalidArgument);
}

// A cache folder and what was said about it.
struct Cache {
  explicit Cache(const std::string& folder)
      : reader(folder, [this](const std::string& line) { said.push_back(line); }) {}
  std::vector<std::string> said;
  CachedReader reader;
};

std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

TEST_CASE("cache: gives the same as reading, and depends on content and settings") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", generated_text(30, 20));
  Cache cache(folder / "cache");
  const TrainingText first = cache.reader.read_training_text({path}, {});
  CHECK(files_in(folder / "cache").size() == 1);
  const TrainingText second = cache.reader.read_training_text({path}, {});
  CHECK(words_of(second.vocabulary) == words_of(first.vocabulary));
  CHECK(second.ids.to_vector() == first.ids.to_vector());
  CHECK(files_in(folder / "cache").size() == 1);

  cache.reader.read_training_text({path}, {.min_count = 5});
  CHECK(files_in(folder / "cache").size() == 2);
  const TokenIds ids = cache.reader.read_text(path, first.vocabulary);
  CHECK(cache.reader.read_text(path, first.vocabulary).to_vector() == ids.to_vector());
  CHECK(files_in(folder / "cache").size() == 3);
  folder.file("t", generated_text(30, 20, /*seed=*/2));
  CHECK(cache.reader.read_training_text({path}, {}).ids.to_vector() != first.ids.to_vector());
  CHECK(cache.said.empty());
}

TEST_CASE("cache: damage is found wherever it is but in the ids, and the file made anew") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", "a b\nc a\n");
  Cache cache(folder / "cache");
  // Not the text itself: a file that is mapped must not be cut.
  const auto read = [&] {
    const TrainingText text = cache.reader.read_training_text({path}, {});
    return std::pair(words_of(text.vocabulary), text.ids.to_vector());
  };
  const auto expected = read();
  const std::string file = files_in(folder / "cache").at(0).string();
  const std::string whole = read_whole(file);
  const auto check_made_anew = [&](const std::string& damaged) {
    std::ofstream(file, std::ios::binary) << damaged;
    cache.said.clear();
    CHECK(read() == expected);
    REQUIRE(cache.said.size() == 1);
    CHECK(cache.said[0].find("made anew") != std::string::npos);
  };
  const size_t ids = 4096;
  const size_t words = ids + expected.second.size() * sizeof(int32_t);
  const size_t text_end = whole.find_last_not_of(' ', ids - 1);
  REQUIRE(whole.size() > words);
  for (size_t i = 0; i < whole.size(); ++i) {
    if (i > text_end + 2 && i < ids && i % 400 != 0) continue;  // the rest of a page of spaces
    CAPTURE(i);
    if (i % 5 == 0) check_made_anew(whole.substr(0, i));
    if (i >= ids && i < words) continue;
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    check_made_anew(damaged);
  }
  check_made_anew(whole + "x");
  CHECK(read_whole(file) == whole);
}

TEST_CASE("cache: opening it reads none of the ids") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", "a b\nc a\n");
  Cache cache(folder / "cache");
  const TrainingText text = cache.reader.read_training_text({path}, {});
  const std::string file = files_in(folder / "cache").at(0).string();
  std::fstream(file, std::ios::binary | std::ios::in | std::ios::out).seekp(4096) << "XXXX";
  const TrainingText again = cache.reader.read_training_text({path}, {});
  CHECK(cache.said.empty());
  CHECK(again.ids.data()[0] == 0x58585858);
  CHECK(again.ids.checksum() == text.ids.checksum());
}

TEST_CASE("cache: several texts, their order and the bound on words make other files") {
  const TemporaryFolder folder;
  const std::string a = folder.file("a", "a b c\n");
  const std::string b = folder.file("b", "d e f\n");
  Cache cache(folder / "cache");
  const auto first_word = [&](const std::vector<std::string>& paths, int64_t most_words) {
    const TrainingText text = cache.reader.read_training_text(paths, {.most_words = most_words});
    return std::pair(text.vocabulary.word(text.ids.data()[0]), text.most_dropped);
  };
  using Result = std::pair<std::string, int64_t>;
  for (int repeat = 0; repeat < 2; ++repeat) {
    CHECK(first_word({a, b}, 100) == Result{"a", 0});
    CHECK(first_word({b, a}, 100) == Result{"d", 0});
    CHECK(first_word({a}, 100) == Result{"a", 0});
    CHECK(first_word({a, b}, 3) == Result{"<unk>", 2});
    CHECK(files_in(folder / "cache").size() == 4);
  }
  CHECK(cache.said.empty());
}

TEST_CASE("cache: goes on without one where it cannot be written, and says so") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", "a b\n");
  Cache cache(folder.file("file", "in the way") + "/cache");
  CHECK(cache.reader.read_training_text({path}, {}).ids.size() == 3);
  CHECK(cache.said.size() == 1);

  Cache none("none");
  CHECK(none.reader.read_training_text({path}, {}).ids.size() == 3);
  CHECK(none.said.empty());

  Cache beside("");
  beside.reader.read_training_text({path}, {});
  CHECK(files_in(folder / ".sketchgrad-cache").size() == 1);
}

}  // namespace
}  // namespace sketchgrad::apps
