#include "sketchgrad/apps/common/text_reader.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/vocabulary.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

// All blocks, which must be whole words.
std::string text_of(TextsReader reader) {
  std::string text;
  for (std::string block; reader.next(block);) {
    REQUIRE_FALSE(block.empty());
    CHECK(is_space(block.back()));
    text += block;
  }
  std::string more;
  CHECK_FALSE(reader.next(more));
  return text;
}

std::string text_of(const std::string& path) { return text_of(TextsReader({path})); }

struct Packing {
  const char* extension;
  std::function<std::string(const std::string&)> pack;
};

const std::vector<Packing>& packings() {
  static const std::vector<Packing> all = {
      {".txt", [](const std::string& text) { return text; }}, {".xz", xz}, {".gz", gzip}};
  return all;
}

TEST_CASE("text reader: plain, xz and gzip files") {
  const TemporaryFolder folder;
  const std::string text = "one two\n\n \nthree\r\nno end";
  for (const Packing& packing : packings()) {
    CAPTURE(packing.extension);
    const std::string packed = packing.pack(text);
    CHECK(text_of(folder.file(std::string("a") + packing.extension, packed)) == text + "\n");
    // Without a name that tells, the first bytes do.
    CHECK(text_of(folder.file("a", packed)) == text + "\n");
  }
}

TEST_CASE("text reader: several packed streams in a row are one text") {
  const TemporaryFolder folder;
  CHECK(text_of(folder.file("t.gz", gzip("a\nb") + gzip("c\nd"))) == "a\nbc\nd\n");
  CHECK(text_of(folder.file("t.xz", xz("a\nb") + xz("c\nd"))) == "a\nbc\nd\n");
}

TEST_CASE("text reader: blocks of any size, in lines and words longer than they are") {
  const TemporaryFolder folder;
  const std::string text = generated_text(40, 30) + std::string(50, 'x') + " \r\n\n\t" +
                           std::string(200, 'y') + "\n" + std::string(100, ' ') + "z";
  for (const Packing& packing : packings()) {
    const std::string path = folder.file(std::string("t") + packing.extension, packing.pack(text));
    for (const size_t bytes : {1, 2, 3, 7, 64, 65, 1000, 100'000}) {
      CAPTURE(bytes);
      CHECK(text_of(TextsReader({path}, bytes)) == text + "\n");
    }
  }
  const std::string line(3'000'000, 'x');
  CHECK(text_of(folder.file("long", line + "\n" + line)) == line + "\n" + line + "\n");
}

TEST_CASE("text reader: no block is much larger than asked for") {
  const TemporaryFolder folder;
  TextReader reader(folder.file("t", generated_text(100, 1000)), 100);
  for (std::string block; reader.next(block);) CHECK(block.size() < 100 + 10);
}

TEST_CASE("text reader: blocks of whole lines, and where they begin") {
  const TemporaryFolder folder;
  const std::string text = generated_text(40, 30) + "\n\n" + std::string(200, 'y') + "\n z";
  for (const Packing& packing : packings()) {
    const std::string path = folder.file(std::string("t") + packing.extension, packing.pack(text));
    for (const size_t bytes : {1, 2, 7, 64, 1000, 100'000}) {
      CAPTURE(bytes);
      TextsReader reader({path, path}, bytes, TextCut::lines);
      std::string read;
      for (std::string block; reader.next(block);) {
        CHECK(block.back() == '\n');
        if (read.size() == text.size() + 1) read.clear();  // the second file
        CHECK(reader.place().file == path);
        CHECK(reader.place().line == 1 + std::count(read.begin(), read.end(), '\n'));
        read += block;
      }
      CHECK(read == text + "\n");
    }
  }
}

TEST_CASE("text reader: several files are one text, each with an end of line") {
  const TemporaryFolder folder;
  const std::vector<std::string> paths = {folder.file("a", "one\ntwo"), folder.file("b", "\n"),
                                          folder.file("c.gz", gzip("three \r")),
                                          folder.file("d.xz", xz("four\n"))};
  CHECK(text_of(TextsReader(paths)) == "one\ntwo\n\nthree \r\nfour\n");
  CHECK(text_of(TextsReader(paths, 3)) == "one\ntwo\n\nthree \r\nfour\n");
}

TEST_CASE("text reader: tells how much of the files is read") {
  const TemporaryFolder folder;
  const std::string text = generated_text(2000, 1000);
  int64_t bytes = 0;
  std::vector<std::string> paths;
  for (const Packing& packing : packings()) {
    const std::string packed = packing.pack(text);
    paths.push_back(folder.file(std::string("t") + packing.extension, packed));
    bytes += static_cast<int64_t>(packed.size());
  }
  TextsReader reader(paths, 10'000);
  CHECK(reader.total_bytes() == bytes);
  int64_t last = 0;
  for (std::string block; reader.next(block);) {
    CHECK(reader.packed_bytes() >= last);
    last = reader.packed_bytes();
    CHECK(last > 0);
  }
  CHECK(reader.packed_bytes() == bytes);
  CHECK(TextsReader({paths[0], "/dev/zero"}).total_bytes() == 0);
}

TEST_CASE("text reader: refuses what is no text") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(TextReader(folder / "missing.txt"), DataError);
  CHECK_THROWS_AS(TextReader(folder / "."), DataError);
  for (const Packing& packing : packings()) {
    const std::string name = std::string("empty") + packing.extension;
    CHECK_THROWS_AS(TextReader(folder.file(name, packing.pack(""))), DataError);
  }
  CHECK_THROWS_AS(TextReader(folder.file("plain.xz", "words\n")), DataError);
  CHECK_THROWS_AS(TextReader(folder.file("plain.gz", "words\n")), DataError);

  for (const size_t bytes : {1, 4, 1000}) {
    TextsReader reader(
        {folder.file("good", "x\ny\n"), folder.file("nul.txt", std::string("fine\n\nb\0d\n", 10))},
        bytes);
    try {
      for (std::string block; reader.next(block);) {
      }
      FAIL("a NUL byte was taken");
    } catch (const DataError& error) {
      CHECK(error.line() == 3);
      CHECK(error.file() == folder / "nul.txt");
    }
  }
}

TEST_CASE("text reader: names the line where a stream is cut short") {
  const TemporaryFolder folder;
  const std::string text = generated_text(3000, 1000);
  const std::string packed = gzip(text);
  TextReader reader(folder.file("t.gz", packed.substr(0, packed.size() / 2)), 5000);
  try {
    for (std::string block; reader.next(block);) {
    }
    FAIL("a cut stream was taken");
  } catch (const DataError& error) {
    CHECK(error.line() > 1000);
    CHECK(error.line() < 2000);
  }
}

// True if the file is refused. A clean result must be a beginning of the text, for truncation.
bool refused(const std::string& path, std::string& text) {
  try {
    TextReader reader(path);
    for (std::string block; reader.next(block);) text += block;
    return false;
  } catch (const DataError&) {
    return true;
  }
}

TEST_CASE("text reader: truncated packed files are refused wherever they end") {
  const TemporaryFolder folder;
  const std::string text = generated_text(20, 30);
  for (const Packing& packing : packings()) {
    const std::string packed = packing.pack(text);
    const bool plain = std::string(packing.extension) == ".txt";
    for (size_t length = 1; length < packed.size(); ++length) {
      std::string read;
      const std::string name = std::string("cut") + packing.extension;
      CAPTURE(length);
      if (plain) {
        CHECK_FALSE(refused(folder.file(name, packed.substr(0, length)), read));
      } else {
        CHECK(refused(folder.file(name, packed.substr(0, length)), read));
      }
    }
  }
}

TEST_CASE("text reader: flipped bits are refused or read without harm") {
  const TemporaryFolder folder;
  const std::string text = generated_text(10, 30);
  for (const Packing& packing : packings()) {
    const std::string whole = packing.pack(text);
    for (size_t i = 0; i < whole.size(); ++i) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
      std::string read;
      const bool is_refused =
          refused(folder.file(std::string("f") + packing.extension, damaged), read);
      // The header of gzip has fields that change nothing; content is protected by checksums.
      if (!is_refused && std::string(packing.extension) != ".txt") CHECK(read == text);
    }
  }
}

}  // namespace
}  // namespace sketchgrad::apps
