#include "sketchgrad/apps/common/output_paths.h"

#include <filesystem>
#include <system_error>

#include "sketchgrad/framework/check.h"

namespace sketchgrad::apps {

namespace fs = std::filesystem;

namespace {

bool is_same_file(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return false;
  std::error_code problem;
  if (fs::exists(a, problem)) {
    return fs::is_regular_file(a, problem) && fs::equivalent(a, b, problem);
  }
  if (fs::exists(b, problem)) return false;
  const fs::path first = fs::weakly_canonical(a, problem);
  return !problem && first == fs::weakly_canonical(b, problem) && !problem;
}

}  // namespace

std::vector<NamedPath> named_paths(const std::string& flag, const std::vector<std::string>& paths) {
  std::vector<NamedPath> result;
  for (const std::string& path : paths) result.push_back({flag, path});
  return result;
}

std::vector<NamedPath> operator+(std::vector<NamedPath> a, const std::vector<NamedPath>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void check_outputs(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& [flag, path] = outputs[i];
    for (const NamedPath& input : inputs) {
      check(!is_same_file(path, input.path), "{}: {} is an input, that of {}", flag, path,
            input.flag);
    }
    for (size_t j = 0; j < i; ++j) {
      check(!is_same_file(path, outputs[j].path), "{}: {} is written by {} as well", flag, path,
            outputs[j].flag);
    }
  }
}

}  // namespace sketchgrad::apps
