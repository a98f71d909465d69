#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>
#include <ostream>
#include <string>

#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/output_paths.h"
#include "sketchgrad/tools/memory/chrome_trace.h"
#include "sketchgrad/tools/memory/commands.h"
#include "sketchgrad/tools/memory/pytorch_snapshot.h"

namespace sketchgrad::memory {

namespace {

struct ExportOptions {
  std::string folder;
  std::string chrome;   // file; empty for none
  std::string pytorch;  // file; empty for none
};

int run(const ExportOptions& options) {
  apps::check_outputs({{"--chrome", options.chrome}, {"--pytorch", options.pytorch}},
                      {{"DIR", apps::memory_profile_file(options.folder)}});
  const apps::ProfiledRun run = apps::read_memory_profile(options.folder);
  const auto write = [](const std::string& path, const std::string& content) {
    if (path.empty()) return;
    apps::replace_file("memory export", path, [&](std::ostream& file) { file << content; });
  };
  if (!options.chrome.empty()) write(options.chrome, chrome_trace(run).dump() + "\n");
  if (!options.pytorch.empty()) write(options.pytorch, pytorch_snapshot(run));
  return 0;
}

}  // namespace

Command add_export_command(CLI::App& program) {
  const auto options = std::make_shared<ExportOptions>();
  CLI::App& command = *program.add_subcommand("export", "a profile for programs of others");
  command.add_option("DIR", options->folder, "folder of the profile, as --memory-profile wrote it")
      ->required();
  CLI::Option_group& files = *command.add_option_group("files", "what to write");
  files.add_option("--chrome", options->chrome,
                   "file of trace events, for Perfetto and chrome://tracing");
  files.add_option("--pytorch", options->pytorch, "snapshot for PyTorch's memory viewer");
  files.require_option(1, 0);
  return {&command, [options] { return run(*options); }};
}

}  // namespace sketchgrad::memory
