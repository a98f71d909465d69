#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>
#include <vector>

namespace sketchgrad::apps {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitStopped = 130;

// argv without the program's name.
std::vector<std::string> arguments_of(int argc, char** argv);
// The same behind the program's plain name, as people type it.
std::vector<std::string> command_of(const std::string& program, std::vector<std::string> arguments);
// Throws what CLI11 does, and InvalidArgument for "--flag=" without a value.
void parse(CLI::App& app, std::vector<std::string> arguments);

// For the help of a pair "--flag,!--no-flag", which has no default in it: "[on]".
std::string default_of(bool flag);

// Throws InvalidArgument where one of the flags is given: "FLAG: OWNER has no such setting".
void refuse_given(const CLI::App& command, const std::vector<const char*>& flags,
                  const std::string& owner);

// Runs `body` and turns what it throws into one line "NAME: error: ..." on stderr and an exit code:
// kExitUsage for wrong flags and values, kExitFailure for everything else, also where stdout did
// not take all that was printed. Help is printed.
int run_program(const std::string& name, const CLI::App& app, const std::function<int()>& body);

}  // namespace sketchgrad::apps
