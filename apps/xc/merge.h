#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace sketchgrad::apps::xc {

// Joins models that hold other repetitions of the same MACH into one file that has parameters and
// the model's options alone, the same for any order of `checkpoints`. Throws InvalidArgument naming
// what does not go together: other settings of the model or of its training, data, seeds or steps,
// a repetition that two of them hold, or networks that share a layer. A joined model may be joined
// again; how it was trained is then no longer known, and not compared.
void merge(const std::vector<std::string>& checkpoints, const std::string& output);

// What `xc merge` is told.
struct MergeSettings {
  std::vector<std::string> models;  // files or folders
  std::string output;
};
void add_options(CLI::App& command, MergeSettings& settings);
void merge_and_print(const MergeSettings& settings);

}  // namespace sketchgrad::apps::xc
