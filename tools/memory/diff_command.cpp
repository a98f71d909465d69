#include <memory>
#include <string>

#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/tools/memory/commands.h"
#include "sketchgrad/tools/memory/diff.h"
#include "sketchgrad/tools/memory/summary.h"

namespace sketchgrad::memory {

namespace {

struct DiffOptions {
  std::string a;
  std::string b;
  bool json = false;
};

int run(const DiffOptions& options) {
  const Difference between = difference(summarize(apps::read_memory_profile(options.a)),
                                        summarize(apps::read_memory_profile(options.b)));
  if (options.json) {
    print_json(difference_json(between));
  } else {
    print_text(difference_text(between));
  }
  return 0;
}

}  // namespace

Command add_diff_command(CLI::App& program) {
  const auto options = std::make_shared<DiffOptions>();
  CLI::App& command = *program.add_subcommand(
      "diff",
      "what memory holds more or less of at the peak of run B than at that of run A, by category "
      "and tensor, the largest change first. Sizes are in B, KiB, MiB, GiB (of 1024)");
  command.add_option("A", options->a, "folder of a profile")->required();
  command.add_option("B", options->b, "folder of another")->required();
  command.add_flag("--json", options->json, "print one JSON object instead, its sizes in bytes");
  return {&command, [options] { return run(*options); }};
}

}  // namespace sketchgrad::memory
