#pragma once

#include <string>
#include <vector>

namespace sketchgrad::apps {

// A file that a command reads or writes, and the flag that names it.
struct NamedPath {
  std::string flag;
  std::string path;  // empty: none
};

// `paths` of a flag that takes several.
std::vector<NamedPath> named_paths(const std::string& flag, const std::vector<std::string>& paths);
// Both, one behind the other.
std::vector<NamedPath> operator+(std::vector<NamedPath> a, const std::vector<NamedPath>& b);

// Throws InvalidArgument naming both flags where an output is an input or another output, whatever
// links lead to it. What is there and no regular file may be both: a terminal, a pipe.
void check_outputs(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs);

}  // namespace sketchgrad::apps
