#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/config_file.h"
#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/apps/lm/train.h"
#include "sketchgrad/apps/xc/train.h"
#include "sketchgrad/framework/check.h"
#include "sketchgrad/tools/memory/commands.h"

namespace sketchgrad::memory {

namespace {

using apps::PlannedRun;
using apps::RunPlanner;
using nlohmann::json;

struct PlanOptions {
  std::string budget;   // as parse_bytes reads it; empty: what the machine has
  int64_t batch = 0;    // 0: that of the run
  std::string profile;  // folder; empty: none
  bool largest_batch = true;
  bool json = false;
};

struct Budget {
  int64_t bytes = 0;
  std::string of;
};

// Of the system, and of the group of processes that this one is in.
Budget machine_budget() {
  const auto number_in = [](const char* path) {
    int64_t number = 0;
    std::ifstream(path) >> number;  // "max" leaves 0
    return number;
  };
  Budget budget;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string name; meminfo >> name;) {
    if (name != "MemAvailable:") continue;
    meminfo >> budget.bytes;
    budget = {budget.bytes * 1024, "available on this machine"};
    break;
  }
  const int64_t most = number_in("/sys/fs/cgroup/memory.max");
  const int64_t left = most - number_in("/sys/fs/cgroup/memory.current");
  if (most > 0 && left < budget.bytes) budget = {left, "left to this control group"};
  return budget;
}

// `arguments`: of the program, "train" first. Null where they ask for help.
template <class Settings>
std::unique_ptr<RunPlanner> parse_run(const std::string& program,
                                      const std::vector<std::string>& arguments,
                                      std::string& device) {
  check(!arguments.empty() && arguments[0] == "train", "only runs of \"{} train\" are planned",
        program);
  CLI::App app("", program);
  CLI::App& train = *app.add_subcommand("train", "the run that is planned");
  Settings settings;
  add_options(train, settings);
  apps::add_config_option(train, program);
  std::vector<std::string> all =
      apps::expand_config({arguments.begin() + 1, arguments.end()}, train, program);
  all.insert(all.begin(), "train");
  try {
    apps::parse(app, all);
  } catch (const CLI::Success& success) {  // --help
    app.exit(success);
    return nullptr;
  }
  settings.run.arguments = arguments;
  settings.run.arguments.insert(settings.run.arguments.begin(), program);
  device = std::exchange(settings.run.compute.device, "cpu");
  settings.run.compute.precision = "fp32";
  if constexpr (requires { settings.plan; }) settings.plan = true;
  complete(settings);
  return make_planner(settings);
}

std::unique_ptr<RunPlanner> planner_of(const std::vector<std::string>& run, std::string& device) {
  const std::vector<std::string> arguments(run.begin() + 1, run.end());
  // A path to the program is as good as its name.
  const std::string program = run[0].substr(run[0].rfind('/') + 1);
  if (program == "lm") return parse_run<apps::lm::TrainSettings>("lm", arguments, device);
  if (program == "xc") return parse_run<apps::xc::TrainSettings>("xc", arguments, device);
  throw InvalidArgument(fmt::format(
      "runs of lm and xc are planned, not of \"{}\": memory plan -- lm train ...", run[0]));
}

struct Plan {
  PlannedRun run;
  int64_t batch = 0;
  Budget budget;
  std::optional<int64_t> largest_batch;  // where it was looked for
  std::string device;

  bool fits() const { return run.at_peak.total <= budget.bytes; }
};

json to_json(const Plan& plan) {
  return {{"format", "sketchgrad-memory-plan"},
          {"version", 1},
          {"arguments", plan.run.profile.arguments},
          {"device", plan.device},
          {"batch", plan.batch},
          {"traced_steps", plan.run.profile.steps},
          {"peak_bytes", apps::to_json(plan.run.peak)},
          {"at_peak_bytes", apps::to_json(plan.run.at_peak)},
          {"peak_reserved_bytes", plan.run.peak_reserved},
          {"peak_at", plan.run.moment},
          {"budget_bytes", plan.budget.bytes},
          {"fits", plan.fits()},
          {"largest_batch", plan.largest_batch ? json(*plan.largest_batch) : json(nullptr)}};
}

std::string to_text(const Plan& plan) {
  const PlannedRun& run = plan.run;
  std::string text = apps::format_memory_table(run.peak, run.at_peak);
  text += fmt::format("\npeak at          {}\nwith rounding    {} and cached blocks at most\n",
                      run.moment, format_bytes(run.peak_reserved));
  text += fmt::format("traced           {} steps with batches of {}, validation and scores\n",
                      run.profile.steps, plan.batch);
  text += fmt::format("{:<17}{} {}\n", plan.fits() ? "fits into" : "DOES NOT FIT",
                      format_bytes(plan.budget.bytes), plan.budget.of);
  if (plan.largest_batch) {
    text += *plan.largest_batch > 0
                ? fmt::format("largest batch    {}\n", *plan.largest_batch)
                : std::string("largest batch    none: not even batches of 1 fit\n");
  }
  if (plan.device != "cpu") {
    text +=
        "on cuda          traced as on the CPU: cuDNN's and CUB's workspaces, rounding to 256 "
        "bytes, and the context come on top\n";
  }
  return text;
}

// `run`: the program and its arguments.
int plan_run(const PlanOptions& options, const std::vector<std::string>& run) {
  check(!run.empty(), "the run to plan is missing: memory plan -- lm train ...");
  Plan plan;
  const auto planner = planner_of(run, plan.device);
  if (planner == nullptr) return 0;
  plan.budget = options.budget.empty()
                    ? machine_budget()
                    : Budget{apps::parse_bytes("--budget", options.budget), "given"};
  plan.batch = options.batch > 0 ? options.batch : planner->batch();
  plan.run = planner->plan(plan.batch);
  if (options.largest_batch) plan.largest_batch = planner->largest_batch(plan.budget.bytes);
  if (!options.profile.empty()) apps::write_memory_profile(options.profile, plan.run.profile);
  if (options.json) {
    print_json(to_json(plan));
  } else {
    print_text(to_text(plan));
  }
  return plan.fits() ? 0 : apps::kExitFailure;
}

}  // namespace

Command add_plan_command(CLI::App& program, const std::vector<std::string>& run) {
  const auto options = std::make_shared<PlanOptions>();
  CLI::App& command = *program.add_subcommand(
      "plan",
      "the peak of a run before it is begun: its steps are traced with its own data, without "
      "arithmetic and without a device. Exits with 1 where it does not fit");
  command.footer("The run stands behind --: memory plan [OPTIONS] -- lm train ...\nand so for xc.");
  command.add_option("--budget", options->budget,
                     "bytes that there are, as 500MB or 2GiB [what this machine has available]");
  command.add_option("--batch", options->batch, "another batch than the run's")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command
      .add_flag("--largest-batch,!--no-largest-batch", options->largest_batch,
                "look for the largest batch that fits, which takes some more traces")
      ->capture_default_str();
  command.add_option("--memory-profile", options->profile,
                     "folder for the profile of the trace, as of a run");
  command.add_flag("--json", options->json, "print one JSON object instead, its sizes in bytes");
  return {&command, [options, &run] { return plan_run(*options, run); }};
}

}  // namespace sketchgrad::memory
