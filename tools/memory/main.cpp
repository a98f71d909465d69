// memory: plans the memory of runs, and reads their memory profiles.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/tools/memory/commands.h"

int main(int argc, char** argv) {
  using namespace sketchgrad;
  CLI::App app(
      "Tells what a run will take, and where the memory of one went, of a profile that "
      "--memory-profile wrote.",
      "memory");
  app.require_subcommand(1);
  std::vector<std::string> run;
  const std::vector<memory::Command> commands = {
      memory::add_plan_command(app, run), memory::add_report_command(app),
      memory::add_diff_command(app),      memory::add_check_command(app),
      memory::add_export_command(app),
  };
  return apps::run_program("memory", app, [&] {
    // What stands behind -- are another program's flags.
    std::vector<std::string> arguments = apps::arguments_of(argc, argv);
    const auto mark = std::find(arguments.begin(), arguments.end(), "--");
    if (mark != arguments.end()) run.assign(mark + 1, arguments.end());
    arguments.erase(mark, arguments.end());
    apps::parse(app, std::move(arguments));
    const auto chosen =
        std::find_if(commands.begin(), commands.end(),
                     [](const memory::Command& command) { return command.parsed->parsed(); });
    return chosen->run();
  });
}
