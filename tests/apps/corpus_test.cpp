#include "sketchgrad/apps/common/corpus.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> words_of(const Vocabulary& vocabulary) {
  std::vector<std::string> words;
  for (int32_t id = 0; id < vocabulary.size(); ++id) words.push_back(vocabulary.word(id));
  return words;
}

std::vector<std::string> decoded(const Tensor& ids, const Vocabulary& vocabulary) {
  std::vector<std::string> words;
  for (const int32_t id : ids.to_vector<int32_t>()) words.push_back(vocabulary.word(id));
  return words;
}

TEST_CASE("corpus: every line gives its tokens and <eos>, ids go by frequency") {
  const TemporaryFolder folder;
  const TrainingText text =
      read_training_text(folder.file("t", " \n b a\tb \n\nc b a\n"), /*vocab_min=*/1);
  // <eos> 4, b 3, a 2, c 1, <unk> never.
  CHECK(words_of(text.vocabulary) == std::vector<std::string>{"<eos>", "b", "a", "c", "<unk>"});
  CHECK(text.ids.to_vector<int32_t>() == std::vector<int32_t>{0, 1, 2, 1, 0, 0, 3, 1, 2, 0});
  CHECK(text.ids.dtype() == DType::int32);
}

TEST_CASE("corpus: equal frequencies go by first appearance") {
  const TemporaryFolder folder;
  const TrainingText text = read_training_text(folder.file("t", "d c b a"), 1);
  CHECK(words_of(text.vocabulary) ==
        std::vector<std::string>{"d", "c", "b", "a", "<eos>", "<unk>"});
}

TEST_CASE("corpus: rare words become <unk>, which counts with them") {
  const TemporaryFolder folder;
  const TrainingText text = read_training_text(folder.file("t", "a a x y <unk>\na z"), 2);
  // <unk> 4 (x, y, itself, z), a 3, <eos> 2.
  CHECK(words_of(text.vocabulary) == std::vector<std::string>{"<unk>", "a", "<eos>"});
  CHECK(decoded(text.ids, text.vocabulary) == std::vector<std::string>{"a", "a", "<unk>", "<unk>",
                                                                       "<unk>", "<eos>", "a",
                                                                       "<unk>", "<eos>"});
}

TEST_CASE("corpus: <eos> stays however rare it is") {
  const TemporaryFolder folder;
  const TrainingText text = read_training_text(folder.file("t", "a a a"), 3);
  CHECK(words_of(text.vocabulary) == std::vector<std::string>{"a", "<eos>", "<unk>"});
}

TEST_CASE("corpus: other texts take the vocabulary as it is") {
  const TemporaryFolder folder;
  const Vocabulary vocabulary = read_training_text(folder.file("t", "a b"), 1).vocabulary;
  const Tensor ids = read_text(folder.file("v", "b new a\n"), vocabulary);
  CHECK(decoded(ids, vocabulary) == std::vector<std::string>{"b", "<unk>", "a", "<eos>"});
}

TEST_CASE("corpus: longer than one piece of the token buffer") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += i % 3 == 0 ? "a " : "b ";
  const TrainingText read = read_training_text(folder.file("t", text), 1);
  const std::vector<int32_t> ids = read.ids.to_vector<int32_t>();
  REQUIRE(ids.size() == 300'001);
  bool right = true;
  for (size_t i = 0; i < 300'000; ++i) right = right && ids[i] == (i % 3 == 0 ? 1 : 0);
  CHECK(right);
}

TEST_CASE("corpus: token arrays are counted as data") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", generated_text(50, 10));
  const int64_t before = allocator().current()[Category::data];
  const TrainingText text = read_training_text(path, 1);
  CHECK(allocator().current()[Category::data] - before == text.ids.bytes());
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
  const TrainingText first = cache.reader.read_training_text(path, 1);
  CHECK(files_in(folder / "cache").size() == 1);
  const TrainingText second = cache.reader.read_training_text(path, 1);
  CHECK(words_of(second.vocabulary) == words_of(first.vocabulary));
  CHECK(second.ids.to_vector<int32_t>() == first.ids.to_vector<int32_t>());
  CHECK(files_in(folder / "cache").size() == 1);

  cache.reader.read_training_text(path, 5);
  CHECK(files_in(folder / "cache").size() == 2);
  const Tensor ids = cache.reader.read_text(path, first.vocabulary);
  CHECK(cache.reader.read_text(path, first.vocabulary).to_vector<int32_t>() ==
        ids.to_vector<int32_t>());
  CHECK(files_in(folder / "cache").size() == 3);
  folder.file("t", generated_text(30, 20, /*seed=*/2));
  CHECK(cache.reader.read_training_text(path, 1).ids.to_vector<int32_t>() !=
        first.ids.to_vector<int32_t>());
  CHECK(cache.said.empty());
}

TEST_CASE("cache: damage is found wherever it is, and the file made anew") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", "a b\nc a\n");
  Cache cache(folder / "cache");
  const TrainingText expected = cache.reader.read_training_text(path, 1);
  const std::string file = files_in(folder / "cache").at(0).string();
  const std::string whole = read_whole(file);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    std::ofstream(file, std::ios::binary) << (i % 5 == 0 ? whole.substr(0, i) : damaged);
    const TrainingText text = cache.reader.read_training_text(path, 1);
    CAPTURE(i);
    CHECK(words_of(text.vocabulary) == words_of(expected.vocabulary));
    CHECK(text.ids.to_vector<int32_t>() == expected.ids.to_vector<int32_t>());
  }
  CHECK(read_whole(file) == whole);
  CHECK_FALSE(cache.said.empty());
}

TEST_CASE("cache: goes on without one where it cannot be written, and says so") {
  const TemporaryFolder folder;
  const std::string path = folder.file("t", "a b\n");
  Cache cache(folder.file("file", "in the way") + "/cache");
  CHECK(cache.reader.read_training_text(path, 1).ids.numel() == 3);
  CHECK(cache.said.size() == 1);

  Cache none("none");
  CHECK(none.reader.read_training_text(path, 1).ids.numel() == 3);
  CHECK(none.said.empty());

  Cache beside("");
  beside.reader.read_training_text(path, 1);
  CHECK(files_in(folder / ".sketchgrad-cache").size() == 1);
}

}  // namespace
}  // namespace sketchgrad::apps
