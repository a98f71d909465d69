#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/compute.h"
#include "sketchgrad/apps/xc/examples_writer.h"

namespace sketchgrad::apps::xc {

// What `xc prepare` is told.
struct PrepareSettings {
  std::vector<std::string> input = {};  // files that follow each other
  std::string output = {};
  std::string like = {};  // a prepared training set; empty: this is one
  std::string malformed = "fatal";
  // Without `like`:
  std::string format = "tsv";
  std::string features = "words";
  std::string ngrams = "3-5";
  int64_t hash_dim = 0;  // 0: 2^18 for text, the features of the file for xc
  std::string weights = "tf";
  bool normalize = true;
  ComputeOptions compute = {};  // its threads
};

void add_options(CLI::App& command, PrepareSettings& settings);

struct Prepared {
  InputSettings input;
  Records::Totals totals;
  int64_t classes = 0;
  int64_t malformed = 0;  // lines that were left out
};

// How texts are read; tests choose it, results do not depend on it.
inline constexpr size_t kPrepareBlockBytes = size_t{1} << 18;

// Reads the input twice, as one text, and writes the file of examples (examples_format.h). First
// classes and rows are counted, then rows are written. `say` is told of malformed lines that are
// skipped.
//
// Held are the classes with their names, with tf-idf weights a count for each feature, and of the
// text a few blocks with their rows.
//
// Rows without features or without labels are kept and counted. Labels that the training set does
// not have are -1; other ids of XC files are what they are in the file.
//
// Nothing where a signal asked to stop (StopSignal). Throws InvalidArgument for settings that do
// not go together, DataError naming file and line, and IoError where the output cannot be written;
// what was there then stays as it was.
std::optional<Prepared> prepare(const PrepareSettings& settings,
                                const std::function<void(const std::string&)>& say,
                                size_t block_bytes = kPrepareBlockBytes);

// The same for the command line, with what came out in a few lines. False where it was stopped.
bool prepare_and_print(const PrepareSettings& settings);

}  // namespace sketchgrad::apps::xc
