// How fast the kernels, the optimizer steps and a training step are, each against the floor that
// this machine's bandwidth and arithmetic set, on the CPU or on a GPU.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <tbb/global_control.h>
#include <tbb/info.h>

#include <ostream>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/framework/memory.h"
#include "sketchgrad/kernels/device.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/layers/mach_aggregation.h"
#include "sketchgrad/tools/bench/groups.h"

namespace sketchgrad::bench {
namespace {

struct CommandLine {
  Options options;
  std::vector<std::string> only;
  std::string json_file;
  std::string device = "cpu";
  std::string precision = "fp32";
};

std::vector<Group> all_groups() {
  std::vector<Group> groups = kernel_groups();
  for (const auto& more :
       {optimizer_groups(), softmax_groups(), mach_groups(), step_groups(), memory_groups()}) {
    groups.insert(groups.end(), more.begin(), more.end());
  }
  return groups;
}

std::string names_of(const std::vector<Group>& groups) {
  std::string names = "machine";
  for (const Group& group : groups) names += ", " + group.name;
  return names;
}

// The groups of which a name in `only` is a part; all where it is empty.
std::vector<Group> select(const std::vector<Group>& groups, const std::vector<std::string>& only) {
  if (only.empty()) return groups;
  std::vector<bool> wanted(groups.size(), false);
  for (const std::string& name : only) {
    bool found = name == "machine";
    for (size_t i = 0; i < groups.size(); ++i) {
      if (name.empty() || groups[i].name.find(name) == std::string::npos) continue;
      wanted[i] = found = true;
    }
    if (!found) {
      throw InvalidArgument(
          fmt::format("--only: {} is part of none of {}", name, names_of(groups)));
    }
  }
  std::vector<Group> selected;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (wanted[i]) selected.push_back(groups[i]);
  }
  return selected;
}

void describe(CLI::App& app, CommandLine& line) {
  Options& options = line.options;
  const CLI::Validator positive = apps::whole_in(1, (int64_t{1} << 31) - 1);
  app.add_option("--threads", options.threads, "threads of all kernels; 0: one a processor")
      ->check(apps::whole_in(0, 1024));
  app.add_flag("--cpu-time", options.cpu_time,
               "count the thread's CPU time, for machines with other work; with --threads 1 only");
  app.add_option("--device", line.device,
                 "cpu or cuda; on cuda --threads and --cpu-time mean little")
      ->capture_default_str();
  app.add_option("--precision", line.precision,
                 "what matrix products round their factors to: fp32, or on cuda tf32 or bf16")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16"}))
      ->capture_default_str();
  app.add_option("--rows", options.rows, "rows of the tables with row-sparse gradients")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--dim", options.dim, "columns of these tables")
      ->check(apps::whole_in(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--active", options.active, "rows with a gradient in a step")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--mach-classes", options.mach_classes, "classes that the group mach searches")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--mach-repetitions", options.mach_repetitions, "its hash functions")
      ->check(apps::whole_in(1, MachScorer::kMostPlaces))
      ->capture_default_str();
  app.add_option("--mach-buckets", options.mach_buckets, "meta-classes of each of them")
      ->check(apps::whole_in(2, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--mach-queries", options.mach_queries, "queries of its batch")
      ->check(apps::whole_in(1, int64_t{1} << 16))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "about so long a measurement")
      ->check(apps::real_in(1e-3, 1e4))
      ->capture_default_str();
  app.add_option(
         "--only", line.only,
         "groups to run, by parts of their names: " + names_of(all_groups()) + " (always runs)")
      ->delimiter(',');
  app.add_option("--json", line.json_file, "file for all figures");
}

std::string device_name() {
  return device() == kCpu ? to_string(device()) : kernels::cuda::device_name();
}

nlohmann::json to_json(const CommandLine& line, const Report& report) {
  const Options& options = line.options;
  return {{"settings",
           {{"device", device_name()},
            {"precision", line.precision},
            {"threads", options.threads},
            {"cpu_time", options.cpu_time},
            {"rows", options.rows},
            {"dim", options.dim},
            {"active", options.active},
            {"mach_classes", options.mach_classes},
            {"mach_repetitions", options.mach_repetitions},
            {"mach_buckets", options.mach_buckets},
            {"mach_queries", options.mach_queries},
            {"seconds", options.seconds}}},
          {"peaks",
           {{"memory_bytes_per_second", report.peaks().memory_bandwidth},
            {"cache_bytes_per_second", report.peaks().cache_bandwidth},
            {"flops_per_second", report.peaks().flops}}},
          {"lines", report.lines()}};
}

void check_clock(const Options& options) {
  if (!options.cpu_time || options.threads == 1) return;
  throw InvalidArgument("--cpu-time counts one thread: it needs --threads 1");
}

void run(CommandLine line) {
  const std::vector<Group> groups = select(all_groups(), line.only);
  check_clock(line.options);
  use_device(parse_device(line.device));
  set_product_precision(device(), parse_product_precision(line.precision));
  if (!line.json_file.empty()) apps::check_replaceable("bench", line.json_file);
  use_clock(line.options.cpu_time ? ClockKind::cpu : ClockKind::wall);
  if (line.options.threads == 0) line.options.threads = tbb::info::default_concurrency();
  line.options.active = std::min(line.options.active, line.options.rows);
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                  static_cast<size_t>(line.options.threads));
  fmt::print("{}, {}, threads {}, {} time; ratio: to the first line of the group, same rounds\n",
             device_name(), line.precision, line.options.threads,
             line.options.cpu_time ? "CPU" : "wall");
  Report report;
  run_machine(line.options, report);
  for (const Group& group : groups) {
    group.run(line.options, report);
    allocator(device()).release_cached();
  }
  if (line.json_file.empty()) return;
  const std::string json = to_json(line, report).dump(2);
  apps::replace_file("bench", line.json_file, [&](std::ostream& file) { file << json << '\n'; });
}

int main(int argc, char** argv) {
  CLI::App app("Times kernels, optimizer steps and a training step against this machine's limits.",
               "bench");
  CommandLine line;
  describe(app, line);
  return apps::run_program("bench", app, [&] {
    apps::parse(app, apps::arguments_of(argc, argv));
    run(std::move(line));
    return 0;
  });
}

}  // namespace
}  // namespace sketchgrad::bench

int main(int argc, char** argv) { return sketchgrad::bench::main(argc, argv); }
