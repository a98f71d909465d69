#include "sketchgrad/apps/common/text_reader.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/apps/support.h"

namespace sketchgrad::apps {
namespace {

std::vector<std::string> lines_of(const std::string& path) {
  TextReader reader(path);
  std::vector<std::string> lines;
  for (std::string line; reader.next(line);) lines.push_back(line);
  CHECK(reader.line_number() == static_cast<int64_t>(lines.size()));
  return lines;
}

struct Packing {
  const char* extension;
  std::function<std::string(const std::string&)> pack;
};

const std::vector<Packing>& packings() {
  static const std::vector<Packing> all = {
      {".txt", [](const std::string& text) { return text; }}, {".xz", xz}, {".gz", gzip}};
  return all;
}

TEST_CASE("text reader: lines of plain, xz and gzip files") {
  const TemporaryFolder folder;
  const std::vector<std::string> expected = {"one two", "", " ", "three", "no end"};
  for (const Packing& packing : packings()) {
    CAPTURE(packing.extension);
    const std::string packed = packing.pack("one two\n\n \nthree\r\nno end");
    CHECK(lines_of(folder.file(std::string("a") + packing.extension, packed)) == expected);
    // Without a name that tells, the first bytes do.
    CHECK(lines_of(folder.file("a", packed)) == expected);
  }
}

TEST_CASE("text reader: several packed streams in a row are one text") {
  const TemporaryFolder folder;
  const std::vector<std::string> expected = {"a", "bc", "d"};
  CHECK(lines_of(folder.file("t.gz", gzip("a\nb") + gzip("c\nd"))) == expected);
  CHECK(lines_of(folder.file("t.xz", xz("a\nb") + xz("c\nd"))) == expected);
}

TEST_CASE("text reader: lines longer than its buffer") {
  const TemporaryFolder folder;
  const std::string line(700'000, 'x');
  for (const Packing& packing : packings()) {
    const std::string packed = packing.pack(line + "\n" + line);
    CHECK(lines_of(folder.file(std::string("long") + packing.extension, packed)) ==
          std::vector<std::string>{line, line});
  }
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

  TextReader reader(folder.file("nul.txt", std::string("fine\nb\0d\n", 9)));
  std::string line;
  CHECK(reader.next(line));
  try {
    reader.next(line);
    FAIL("a NUL byte was taken");
  } catch (const DataError& error) {
    CHECK(error.line() == 2);
    CHECK(error.file() == folder / "nul.txt");
  }
}

// True if the file is refused. A clean result must be a beginning of the text, for truncation.
bool refused(const std::string& path, std::string& text) {
  try {
    TextReader reader(path);
    for (std::string line; reader.next(line);) text += line + "\n";
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
