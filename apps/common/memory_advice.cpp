#include "sketchgrad/apps/common/memory_advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

namespace sketchgrad::apps {

namespace {

constexpr size_t kShown = 3;

struct Planned {
  std::string flags;
  int64_t bytes = 0;
};

}  // namespace

std::vector<std::pair<std::string, OptimizerOptions>> smaller_memories(
    const OptimizerOptions& options) {
  std::vector<std::pair<std::string, OptimizerOptions>> result;
  if (!options.memory.empty()) return result;
  struct Choice {
    const char* moment1;  // null: as it is
    const char* moment2;
  };
  constexpr Choice kChoices[] = {
      {nullptr, "rank1"}, {"sketch:0.2", nullptr}, {"sketch:0.2", "rank1"}, {"none", "rank1"}};
  for (const Choice& choice : kChoices) {
    OptimizerOptions changed = options;
    std::string flags;
    const auto set = [&](const char* flag, std::string& moment, const char* memory) {
      if (memory == nullptr || moment == memory) return;
      moment = memory;
      flags += fmt::format("{}{} {}", flags.empty() ? "" : " ", flag, memory);
    };
    set("--moment1", changed.moment1, choice.moment1);
    set("--moment2", changed.moment2, choice.moment2);
    if (flags.empty()) continue;
    if (changed.moment1 == "none") changed.beta1.reset();
    try {
      complete(changed);
      make_optimizer(changed, /*seed=*/0);
      result.emplace_back(flags, changed);
    } catch (const InvalidArgument&) {
      // The rule has no such moment.
    }
  }
  return result;
}

std::string memory_advice(const PlannedRun& as_it_is, int64_t available,
                          const std::vector<Alternative>& alternatives) {
  const int64_t peak = as_it_is.at_peak.total;
  std::vector<Planned> fitting, others;
  for (const Alternative& alternative : alternatives) {
    if (fitting.size() == kShown) break;
    int64_t bytes = 0;
    try {
      bytes = alternative.plan().at_peak.total;
    } catch (const InvalidArgument&) {
      continue;  // the model cannot have it: more samples than classes
    }
    if (bytes >= peak) continue;
    (bytes <= available ? fitting : others).push_back({alternative.flags, bytes});
  }
  std::string text =
      fmt::format("the run would take {} at its peak ({}); ", format_bytes(peak), as_it_is.moment);
  std::vector<Planned>& shown = fitting.empty() ? others : fitting;
  if (shown.empty()) return text + "no setting that is known takes less\n";
  text += fitting.empty() ? "none of these is enough alone:\n" : "it fits with any of these:\n";
  if (fitting.empty()) {
    std::sort(shown.begin(), shown.end(),
              [](const Planned& a, const Planned& b) { return a.bytes < b.bytes; });
    shown.resize(std::min(shown.size(), kShown));
  }
  for (const Planned& one : shown) {
    text += fmt::format("  {:<38} saves {:>11}, takes {}\n", one.flags,
                        format_bytes(peak - one.bytes), format_bytes(one.bytes));
  }
  return text;
}

void throw_with_advice(const OutOfMemory& error, const std::function<std::string()>& make) {
  std::string advice;
  try {
    advice = make();
  } catch (const std::exception&) {
    // The error that there is tells more than that of its explanation.
  }
  throw OutOfMemory(error.what() + advice, error.requested_bytes());
}

}  // namespace sketchgrad::apps
