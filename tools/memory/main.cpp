// memory: plans the memory of runs, and reads their memory profiles.
#include <CLI/CLI.hpp>

#include <algorithm>
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
  const std::vector<memory::Command> commands = {
      memory::add_plan_command(app),   memory::add_report_command(app),
      memory::add_diff_command(app),   memory::add_check_command(app),
      memory::add_export_command(app),
  };
  return apps::run_program("memory", app, [&] {
    apps::parse(app, apps::arguments_of(argc, argv));
    const auto chosen =
        std::find_if(commands.begin(), commands.end(),
                     [](const memory::Command& command) { return command.parsed->parsed(); });
    return chosen->run();
  });
}
