#include <cstdint>
#include <memory>
#include <ostream>
#include <string>

#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/output_paths.h"
#include "sketchgrad/tools/memory/commands.h"
#include "sketchgrad/tools/memory/html.h"
#include "sketchgrad/tools/memory/report.h"
#include "sketchgrad/tools/memory/report_json.h"
#include "sketchgrad/tools/memory/summary.h"

namespace sketchgrad::memory {

namespace {

struct ReportOptions {
  std::string folder;
  bool json = false;
  int64_t top = 10;
  std::string html;  // file; empty for none
};

int run(const ReportOptions& options) {
  apps::check_outputs({{"--html", options.html}},
                      {{"DIR", apps::memory_profile_file(options.folder)}});
  const apps::ProfiledRun run = apps::read_memory_profile(options.folder);
  const Summary summary = summarize(run);
  if (!options.html.empty()) {
    const std::string page = html_page(run, report_json(summary, options.top));
    apps::replace_file("memory report", options.html, [&](std::ostream& file) { file << page; });
  } else if (options.json) {
    print_json(report_json(summary, options.top));
  } else {
    print_text(report_text(summary, options.top));
  }
  return 0;
}

}  // namespace

Command add_report_command(CLI::App& program) {
  const auto options = std::make_shared<ReportOptions>();
  CLI::App& command = *program.add_subcommand(
      "report",
      "the peak of a run: what memory held then, by category, layer and tensor; temporaries, "
      "rounding and cached blocks, what memories of optimizer state save, and what was live where "
      "memory ran out. Sizes are in B, KiB, MiB, GiB (of 1024)");
  command.add_option("DIR", options->folder, "folder of the profile, as --memory-profile wrote it")
      ->required();
  command.add_flag("--json", options->json, "print one JSON object instead, its sizes in bytes");
  command
      .add_option("--html", options->html,
                  "write a page with the timeline instead, which needs no network")
      ->excludes("--json");
  command.add_option("--top", options->top, "how many tensors, blocks and ops are listed")
      ->check(apps::whole_in(1, int64_t{1'000'000}))
      ->capture_default_str();
  return {&command, [options] { return run(*options); }};
}

}  // namespace sketchgrad::memory
