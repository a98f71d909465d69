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
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/apps/common/options.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/run_planner.h"
#include "sketchgrad/apps/lm/train.h"
#include "sketchgrad/apps/xc/train.h"
#include "sketchgrad/framework/check.h"
#include "sketchgrad/kernels/device.h"
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

int64_t number_in(const std::string& path) {
  int64_t number = 0;
  std::ifstream(path) >> number;  // "max" leaves 0
  return number;
}

// What the system has left, and the control group that this process is in, which counts cached
// files that it would drop.
std::optional<Budget> host_budget() {
  const std::string group = "/sys/fs/cgroup/memory.";
  Budget budget = {apps::number_behind("MemAvailable:", "/proc/meminfo") * 1024,
                   "available on this machine"};
  if (const int64_t most = number_in(group + "max"); most > 0) {
    const int64_t left =
        most - number_in(group + "current") + apps::number_behind("inactive_file", group + "stat");
    if (left < budget.bytes) budget = {std::max<int64_t>(0, left), "left to this control group"};
  }
  if (budget.bytes == 0) return std::nullopt;
  return budget;
}

// Nothing where there is no such device to ask.
std::optional<Budget> budget_of(const std::string& device) {
  if (device == "cpu") return host_budget();
  try {
    return Budget{kernels::cuda::device_memory().free, "free on the GPU"};
  } catch (const Error&) {
    return std::nullopt;
  }
}

struct ParsedRun {
  std::unique_ptr<RunPlanner> planner;  // null where they ask for help
  std::string device;
  std::string limit;  // --memory-limit
};

// `arguments`: of the program, "train" first.
template <class Settings>
ParsedRun parse_run(const std::string& program, const std::vector<std::string>& arguments) {
  check(!arguments.empty() && arguments[0] == "train", "only runs of \"{} train\" are planned",
        program);
  CLI::App app("", program);
  CLI::App& train = *app.add_subcommand("train", "the run that is planned");
  Settings settings;
  add_options(train, settings);
  apps::add_config_option(train, program);
  try {
    apps::parse_with_config(app, arguments, train, program);
  } catch (const CLI::Success& success) {  // --help
    app.exit(success);
    return {};
  }
  settings.run.arguments = apps::command_of(program, arguments);
  ParsedRun run;
  run.device = std::exchange(settings.run.compute.device, "cpu");
  run.limit = settings.run.memory_limit;
  settings.run.compute.precision = "fp32";
  if constexpr (requires { settings.plan; }) settings.plan = true;
  complete(settings);
  run.planner = make_planner(settings);
  return run;
}

ParsedRun parse_run(const std::vector<std::string>& run) {
  const std::vector<std::string> arguments(run.begin() + 1, run.end());
  // A path to the program is as good as its name.
  const std::string program = run[0].substr(run[0].rfind('/') + 1);
  if (program == "lm") return parse_run<apps::lm::TrainSettings>("lm", arguments);
  if (program == "xc") return parse_run<apps::xc::TrainSettings>("xc", arguments);
  throw InvalidArgument(fmt::format(
      "runs of lm and xc are planned, not of \"{}\": memory plan -- lm train ...", run[0]));
}

struct Plan {
  PlannedRun run;
  int64_t batch = 0;
  std::optional<Budget> budget;
  std::optional<int64_t> largest_batch;  // where it was looked for
  std::string device;

  bool fits() const { return !budget || run.at_peak.total <= budget->bytes; }
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
          {"budget_bytes", plan.budget ? json(plan.budget->bytes) : json(nullptr)},
          {"fits", plan.budget ? json(plan.fits()) : json(nullptr)},
          {"largest_batch", plan.largest_batch ? json(*plan.largest_batch) : json(nullptr)}};
}

std::string to_text(const Plan& plan) {
  const PlannedRun& run = plan.run;
  std::string text = apps::format_memory_table(run.peak, run.at_peak);
  text += fmt::format("\npeak at          {}\nwith rounding    {} and cached blocks at most\n",
                      run.moment, format_bytes(run.peak_reserved));
  text += fmt::format("traced           {} steps with batches of {}, validation and scores\n",
                      run.profile.steps, plan.batch);
  text += plan.budget ? fmt::format("{:<17}{} {}\n", plan.fits() ? "fits into" : "DOES NOT FIT",
                                    format_bytes(plan.budget->bytes), plan.budget->of)
                      : std::string("budget           none is known here; --budget gives one\n");
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
  const ParsedRun parsed = parse_run(run);
  if (parsed.planner == nullptr) return 0;
  Plan plan;
  plan.device = parsed.device;
  if (!options.budget.empty()) {
    plan.budget = {apps::parse_bytes("--budget", options.budget), "given"};
  } else if (!parsed.limit.empty()) {
    plan.budget = {apps::parse_bytes("--memory-limit", parsed.limit), "as the run is limited to"};
  } else {
    plan.budget = budget_of(parsed.device);
  }
  plan.batch = options.batch > 0 ? options.batch : parsed.planner->batch();
  plan.run = parsed.planner->plan(plan.batch);
  if (options.batch > 0) {
    std::vector<std::string>& arguments = plan.run.profile.arguments;
    arguments.insert(arguments.end(), {"--batch", std::to_string(options.batch)});
  }
  if (options.largest_batch && plan.budget) {
    plan.largest_batch = parsed.planner->largest_batch(plan.budget->bytes);
  }
  if (!options.profile.empty()) apps::write_memory_profile(options.profile, plan.run.profile);
  if (options.json) {
    print_json(to_json(plan));
  } else {
    print_text(to_text(plan));
  }
  return plan.fits() ? 0 : kExitOver;
}

}  // namespace

Command add_plan_command(CLI::App& program, const std::vector<std::string>& run) {
  const auto options = std::make_shared<PlanOptions>();
  CLI::App& command = *program.add_subcommand(
      "plan",
      "the peak of a run before it is begun: its steps are traced with its own data, without "
      "arithmetic and without a device. The exit code is 3 where it does not fit");
  command.footer("The run stands behind --: memory plan [OPTIONS] -- lm train ...\nand so for xc.");
  command
      .add_option("--budget", options->budget,
                  "bytes that there are, as 500MB or 2GiB [the run's --memory-limit, or what this "
                  "machine, or for --device cuda its GPU, has left]")
      ->check(apps::check_bytes);
  command.add_option("--batch", options->batch, "another batch than the run's")
      ->check(apps::whole_in(1, int64_t{1} << 24));
  command.add_flag("--largest-batch,!--no-largest-batch", options->largest_batch,
                   "look for the largest batch that fits, which takes some more traces " +
                       apps::default_of(options->largest_batch));
  command.add_option("--memory-profile", options->profile,
                     "folder for the profile of the trace, as of a run");
  command.add_flag("--json", options->json, "print one JSON object instead, its sizes in bytes");
  return {&command, [options, &run] { return plan_run(*options, run); }};
}

}  // namespace sketchgrad::memory
