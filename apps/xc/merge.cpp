#include "sketchgrad/apps/xc/merge.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/xc/task.h"

namespace sketchgrad::apps::xc {

namespace {

void check_same(const StateDict& one, const StateDict& first) {
  nlohmann::json options = saved_options(one), expected = saved_options(first);
  for (const auto& [name, value] : expected.items()) {
    if (name == "repetitions") continue;
    check(options[name] == value, "[merge] {} has {} = {}, {} has {}", one.source, name,
          options[name].dump(), first.source, value.dump());
  }
  check(saved_classes_checksum(one) == saved_classes_checksum(first),
        "[merge] {} and {} were trained on other classes or features", one.source, first.source);
}

}  // namespace

void merge(const std::vector<std::string>& checkpoints, const std::string& output) {
  check(!checkpoints.empty(), "[merge] no models");
  StateDict merged;
  ClassifierOptions options;
  std::vector<int32_t> all;
  for (const std::string& path : checkpoints) {
    StateDict one = load_model(model_file(path));
    const ClassifierOptions its = saved_options(one);
    check(its.is_mach() && (!its.shared_hidden || checkpoints.size() == 1),
          "[merge] {} is no model of separate repetitions: it is {}{}", path, its.model,
          its.shared_hidden ? " with a hidden layer that repetitions share" : "");
    if (all.empty()) {
      merged = one;
      merged.tensors.clear();
      options = its;
    } else {
      check_same(one, merged);
    }
    for (const int32_t repetition : its.repetitions) {
      check(std::find(all.begin(), all.end(), repetition) == all.end(),
            "[merge] repetition {} is in {} and in a model before it", repetition, path);
      all.push_back(repetition);
    }
    merged.tensors.merge(one.tensors);
  }
  std::sort(all.begin(), all.end());
  options.repetitions = all;
  save_options(options, saved_classes_checksum(merged), merged);
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
  check_replaceable("output", settings.output);
  merge(settings.models, settings.output);
  const ClassifierOptions options =
      saved_options(load_safetensors(settings.output, [](const std::string&) { return false; }));
  print_line(stdout, fmt::format("{}: repetitions {}", settings.output,
                                 fmt::join(options.repetitions, ", ")));
}

}  // namespace sketchgrad::apps::xc
