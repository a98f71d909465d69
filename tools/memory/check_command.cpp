#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/tools/memory/commands.h"
#include "sketchgrad/tools/memory/limits.h"

namespace sketchgrad::memory {

namespace {

struct CheckOptions {
  std::string folder;
  std::vector<std::string> limits;
};

int run(const CheckOptions& options) {
  std::vector<Limit> limits;
  for (const std::string& text : options.limits) limits.push_back(parse_limit("--max", text));
  const apps::ProfiledRun run = apps::read_memory_profile(options.folder);
  const std::vector<CheckedLimit> checked = check_limits(own_peaks(run.record), limits);
  print_text(limits_text(checked));
  const bool all_hold = std::all_of(checked.begin(), checked.end(),
                                    [](const CheckedLimit& limit) { return limit.holds(); });
  return all_hold ? 0 : kExitOver;
}

}  // namespace

Command add_check_command(CLI::App& program) {
  const auto options = std::make_shared<CheckOptions>();
  CLI::App& command = *program.add_subcommand(
      "check", "whether a run kept to limits; the exit code is 3 where it did not");
  command.add_option("DIR", options->folder, "folder of the profile, as --memory-profile wrote it")
      ->required();
  command
      .add_option("--max", options->limits,
                  "NAME=BYTES, any number of times. NAME is total, reserved (with rounding and "
                  "cached blocks), a category (parameter, gradient, optimizer_state, activation, "
                  "workspace, data, index) or layer:LAYER, each at its own peak (of layers, in the "
                  "first steps and in that with the run's peak); "
                  "BYTES a number with or without one of the units B, KB, MB, GB (of 1000), KiB, "
                  "MiB, GiB (of 1024)")
      ->required()
      ->allow_extra_args(false);
  return {&command, [options] { return run(*options); }};
}

}  // namespace sketchgrad::memory
