#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace sketchgrad::apps {

// Settings files of an application: "name = value" lines in TOML, names as the flags without "--".

// `name` itself where it is a file; otherwise, where it has no folder in it, NAME or NAME.toml of
// the application's own settings, beside the program's source or installed with it. Throws
// InvalidArgument naming the settings that there are.
std::string find_config(const std::string& name, const std::string& application);

// The files that stand behind --config among the arguments.
std::vector<std::string> config_files(const std::vector<std::string>& arguments,
                                      const std::string& application);

// The arguments with each "--config FILE" (FILE may stand several times; later ones win) replaced
// by what the files say, placed so that flags on the command line win. `command` must take the last
// of several values of an option; of one that takes several, what wins replaces all of them. Throws
// DataError for a file that cannot be read, sets what `command` does not know, --config and --help
// included, or has an empty value.
std::vector<std::string> expand_config(const std::vector<std::string>& arguments,
                                       const CLI::App& command, const std::string& application);

// Declares --config of a subcommand, for its help.
void add_config_option(CLI::App& command, const std::string& application);
// Parses a program's arguments, expanded where they are those of this subcommand of it. Throws
// DataError naming file and line also where a value that a file sets is refused.
void parse_with_config(CLI::App& app, const std::vector<std::string>& arguments,
                       const CLI::App& command, const std::string& application);

}  // namespace sketchgrad::apps
