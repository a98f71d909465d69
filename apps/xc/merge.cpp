#include "sketchgrad/apps/xc/merge.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/output_paths.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/xc/task.h"

namespace sketchgrad::apps::xc {

namespace {

using nlohmann::json;

// What all repetitions of a model must have in common. A joined model does not say how it was
// trained: what it lacks is not compared.
json common_settings(const StateDict& model) {
  constexpr const char* kSteps = "optimizer.steps";
  json result = saved_options(model);
  result.update(saved_identity(model));
  if (model.metadata.contains(kSteps)) result["steps"] = model.integer(kSteps);
  result.erase("repetitions");
  return result;
}

// Compares each model with all before it.
class SameSettings {
 public:
  void check_next(const StateDict& model) {
    const uint64_t checksum = saved_classes_checksum(model);
    if (source_.empty()) {
      source_ = model.source;
      checksum_ = checksum;
    }
    check(checksum == checksum_, "[merge] {} and {} were trained on other classes or features",
          model.source, source_);
    const json settings = common_settings(model);
    for (const auto& [name, value] : settings.items()) {
      const auto& [before, source] =
          first_.try_emplace(name, Setting{value, model.source}).first->second;
      check(value == before, "[merge] {} has {} = {}, {} has {}", model.source, name, value.dump(),
            source, before.dump());
    }
  }
  uint64_t classes_checksum() const { return checksum_; }

 private:
  struct Setting {
    json value;
    std::string source;
  };
  std::string source_;  // of the first model
  uint64_t checksum_ = 0;
  std::map<std::string, Setting> first_;
};

}  // namespace

void merge(const std::vector<std::string>& checkpoints, const std::string& output) {
  check(!checkpoints.empty(), "[merge] no models");
  StateDict merged;
  SameSettings same;
  ClassifierOptions options;
  std::vector<int32_t> all;
  for (const std::string& path : checkpoints) {
    StateDict one = load_model(model_file(path));
    options = saved_options(one);
    check(options.is_mach() && (!options.shared_hidden || checkpoints.size() == 1),
          "[merge] {} is no model of separate repetitions: it is {}{}", path, options.model,
          options.shared_hidden ? " with a hidden layer that repetitions share" : "");
    same.check_next(one);
    for (const int32_t repetition : options.repetitions) {
      check(std::find(all.begin(), all.end(), repetition) == all.end(),
            "[merge] repetition {} is in {} and in a model before it", repetition, path);
      all.push_back(repetition);
    }
    merged.tensors.merge(one.tensors);
  }
  std::sort(all.begin(), all.end());
  options.repetitions = all;
  save_options(options, same.classes_checksum(), merged);
  save_safetensors(output, merged);
}

void add_options(CLI::App& command, MergeSettings& settings) {
  command
      .add_option(
          "models", settings.models,
          "checkpoints, or folders of checkpoints, that hold other repetitions of one model")
      ->required();
  command.add_option("--output", settings.output, "file of the joined model")->required();
}

void merge_and_print(const MergeSettings& settings) {
  std::vector<NamedPath> inputs;
  for (const std::string& model : settings.models) {
    inputs = inputs + named_paths(model, model_files(model));
  }
  check_outputs({{"--output", settings.output}}, inputs);
  check_replaceable("output", settings.output);
  merge(settings.models, settings.output);
  const ClassifierOptions options =
      saved_options(load_safetensors(settings.output, [](const std::string&) { return false; }));
  print_line(stdout, fmt::format("{}: repetitions {}", settings.output,
                                 fmt::join(options.repetitions, ", ")));
}

}  // namespace sketchgrad::apps::xc
