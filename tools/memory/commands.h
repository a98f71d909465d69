#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace sketchgrad::memory {

// Of commands that judge: a limit or a budget does not hold.
inline constexpr int kExitOver = 3;

// A subcommand of the program, and what it does once it is parsed, which gives the exit code.
struct Command {
  CLI::App* parsed = nullptr;
  std::function<int()> run;
};

// `run`: what stands behind "--", once it is parsed; it must outlive the command.
Command add_plan_command(CLI::App& program, const std::vector<std::string>& run);
Command add_report_command(CLI::App& program);
Command add_diff_command(CLI::App& program);
Command add_check_command(CLI::App& program);
Command add_export_command(CLI::App& program);

// On stdout: lines, the last one ended too, and a value.
void print_text(std::string_view lines);
void print_json(const nlohmann::json& value);

}  // namespace sketchgrad::memory
