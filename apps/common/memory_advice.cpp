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
    // None is the least there is.
    if (options.moment1 != "none") set("--moment1", changed.moment1, choice.moment1);
    set("--moment2", changed.moment2, choice.moment2);
    if (changed.moment1 == "none" && changed.beta1.value_or(0.0) != 0.0) {
      // It may have been given, which completed options do not tell.
      changed.beta1 = 0.0;
      flags += " --beta1 0";
    }
    const auto same = [&](const auto& other) { return other.first == flags; };
    if (flags.empty() || std::any_of(result.begin(), result.end(), same)) continue;
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

std::string compare_alternatives(const PlannedRun& as_it_is, int64_t available,
                                 const std::vector<Alternative>& alternatives,
                                 const Alternative& last_resort) {
  const int64_t peak = as_it_is.at_peak.total;
  std::vector<Planned> fitting, others;
  const auto consider = [&](const Alternative& alternative) {
    try {
      const Proposal proposal = alternative();
      const int64_t bytes = proposal.run.at_peak.total;
      if (bytes >= peak) return;
      (bytes <= available ? fitting : others).push_back({proposal.flags, bytes});
    } catch (const Error&) {
      // The model cannot have it: more samples than classes.
    }
  };
  for (const Alternative& alternative : alternatives) {
    if (fitting.size() < kShown) consider(alternative);
  }
  if (fitting.empty() && last_resort) consider(last_resort);
  std::string text =
      fmt::format("the run would take {} at its peak ({}); ", format_bytes(peak), as_it_is.moment);
  std::vector<Planned>& shown = fitting.empty() ? others : fitting;
  if (shown.empty()) return text + "no setting that is known takes less";
  text += fitting.empty() ? "none of these is enough:\n" : "it fits with any of these:\n";
  if (fitting.empty()) {
    std::sort(shown.begin(), shown.end(),
              [](const Planned& a, const Planned& b) { return a.bytes < b.bytes; });
    shown.resize(std::min(shown.size(), kShown));
  }
  size_t width = 0;
  for (const Planned& one : shown) width = std::max(width, one.flags.size());
  for (const Planned& one : shown) {
    text += fmt::format("  {:<{}} saves {:>11}, takes {}\n", one.flags, width,
                        format_bytes(peak - one.bytes), format_bytes(one.bytes));
  }
  text.pop_back();  // errors end without an end of line
  return text;
}

std::string memory_advice(const AdvisedRun& run, int64_t available) {
  const auto with_memories = [&](const std::string& flags, const OptimizerOptions& optimizer) {
    return [&run, flags, optimizer] {
      const auto planner = run.planner(optimizer);
      return Proposal{flags, planner->plan(planner->batch())};
    };
  };
  // The largest batch that fits, or half of the run's where none does.
  const auto with_batch = [&](const std::string& flags, const OptimizerOptions& optimizer) {
    return [&run, available, flags, optimizer] {
      const auto planner = run.planner(optimizer);
      const int64_t largest = planner->largest_batch(available);
      const int64_t batch = largest > 0 ? largest : std::max<int64_t>(1, planner->batch() / 2);
      return Proposal{fmt::format("--batch {}{}", batch, flags), planner->plan(batch)};
    };
  };
  std::vector<Alternative> alternatives;
  const auto memories = smaller_memories(run.optimizer);
  for (const auto& [flags, optimizer] : memories) {
    alternatives.push_back(with_memories(flags, optimizer));
  }
  // The first choice of memories costs less than another batch does.
  const auto behind_first = alternatives.begin() + std::min<ptrdiff_t>(1, std::ssize(alternatives));
  std::vector<Alternative> others = {with_batch("", run.optimizer)};
  others.insert(others.end(), run.others.begin(), run.others.end());
  alternatives.insert(behind_first, others.begin(), others.end());
  const auto planner = run.planner(run.optimizer);
  return compare_alternatives(
      planner->plan(planner->batch()), available, alternatives,
      memories.empty() ? Alternative()
                       : with_batch(" " + memories.back().first, memories.back().second));
}

void throw_with_advice(const OutOfMemory& error, const std::function<std::string()>& make) {
  std::string advice;
  try {
    advice = make();
  } catch (const std::exception&) {
    // The error that there is tells more than that of its explanation.
  }
  throw OutOfMemory(error.what() + advice, error.requested_bytes(), error.missing_bytes());
}

}  // namespace sketchgrad::apps
