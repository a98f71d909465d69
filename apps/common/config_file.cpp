#include "sketchgrad/apps/common/config_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFlag = "--config";

// Relative to the program: where it is installed, and where it lies in a build directory, whose
// folder include/sketchgrad links to the sources.
std::vector<fs::path> config_folders(const std::string& application) {
  std::error_code none;
  const fs::path program = fs::read_symlink("/proc/self/exe", none).parent_path();
  return {program / "../share/sketchgrad" / application / "configs",
          program / "../include/sketchgrad/apps" / application / "configs"};
}

std::vector<std::string> known_configs(const std::string& application) {
  std::vector<std::string> names;
  for (const fs::path& folder : config_folders(application)) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none)) {
      names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<CLI::ConfigItem> read_items(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw DataError(file, 0, "cannot be read");
  try {
    return CLI::ConfigTOML().from_config(stream);
  } catch (const CLI::Error& error) {
    throw DataError(file, 0, error.what());
  }
}

// The line that sets `name`; 0 where it is not found. CLI11 does not tell.
int64_t line_of(const std::string& file, const std::string& name) {
  std::ifstream stream(file);
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (CLI::detail::trim_copy(line.substr(0, line.find('='))) == name) return number;
  }
  return 0;
}

// What a file can set: not the flags that end the program or that are replaced by a file.
bool is_setting(const CLI::App& command, const CLI::ConfigItem& item) {
  const std::string flag = "--" + item.fullname();
  const CLI::Option* option = command.get_option_no_throw(flag);
  return item.parents.empty() && option != nullptr && option != command.get_help_ptr() &&
         flag != kFlag;
}

struct Setting {
  std::string flag;
  std::vector<std::string> values;
  std::string file;
  int64_t line = 0;
};

struct Expanded {
  std::vector<std::string> arguments;
  std::vector<Setting> settings;  // those that no flag replaces
};

bool takes_several(const CLI::App& command, const std::string& flag) {
  return command.get_option(flag)->get_items_expected_max() > 1;
}

std::vector<Setting> read_config(const std::string& file, const CLI::App& command) {
  std::vector<Setting> settings;
  for (const CLI::ConfigItem& item : read_items(file)) {
    const std::string name = item.fullname();
    if (!is_setting(command, item)) {
      throw DataError(file, line_of(file, item.name),
                      fmt::format("'{}' is no setting of {}", name, command.get_name()));
    }
    const std::string flag = "--" + name;
    if (item.inputs.size() != 1 && !takes_several(command, flag)) {
      throw DataError(file, line_of(file, name),
                      fmt::format("'{}' must have one value (in quotes, if it holds "
                                  "commas or spaces)",
                                  name));
    }
    // CLI11 would take the next argument for the value.
    if (std::find(item.inputs.begin(), item.inputs.end(), "") != item.inputs.end()) {
      throw DataError(file, line_of(file, name),
                      fmt::format("'{}' has no value; leave the line out", name));
    }
    settings.push_back({flag, item.inputs, file, line_of(file, name)});
  }
  return settings;
}

bool sets(const std::string& argument, const std::string& flag) {
  return argument == flag || argument.starts_with(flag + "=");
}

// The files that the arguments name, and the other arguments.
std::pair<std::vector<std::string>, std::vector<std::string>> take_configs(
    const std::vector<std::string>& arguments, const std::string& application) {
  std::vector<std::string> files, rest;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.starts_with(std::string(kFlag) + "=")) {
      files.push_back(find_config(argument.substr(kFlag.size() + 1), application));
    } else if (argument == kFlag && i + 1 < arguments.size()) {
      files.push_back(find_config(arguments[++i], application));
    } else {
      rest.push_back(argument);
    }
  }
  return {files, rest};
}

Expanded expand(const std::vector<std::string>& arguments, const CLI::App& command,
                const std::string& application) {
  std::vector<Setting> settings;
  const auto [files, rest] = take_configs(arguments, application);
  for (const std::string& file : files) {
    for (Setting& setting : read_config(file, command)) {
      // Values of an earlier file are not added to.
      std::erase_if(settings, [&](const Setting& other) { return other.flag == setting.flag; });
      settings.push_back(std::move(setting));
    }
  }
  Expanded expanded;
  for (Setting& setting : settings) {
    const auto sets_it = [&](const std::string& argument) { return sets(argument, setting.flag); };
    const bool is_set = std::any_of(rest.begin(), rest.end(), sets_it);
    // CLI11 would check what does not win as well.
    if (is_set) continue;
    for (const std::string& value : setting.values) {
      expanded.arguments.push_back(fmt::format("{}={}", setting.flag, value));
    }
    expanded.settings.push_back(std::move(setting));
  }
  expanded.arguments.insert(expanded.arguments.end(), rest.begin(), rest.end());
  return expanded;
}

// Whether the message is of this flag, not of one that begins as it does.
bool names(const std::string& message, const std::string& flag) {
  const size_t at = message.find(flag);
  if (at == std::string::npos) return false;
  const char next = at + flag.size() < message.size() ? message[at + flag.size()] : ' ';
  return next == ':' || next == ' ';
}

}  // namespace

std::string find_config(const std::string& name, const std::string& application) {
  std::error_code none;
  if (fs::is_regular_file(name, none)) return name;
  if (name.find('/') == std::string::npos) {
    for (const fs::path& folder : config_folders(application)) {
      for (const std::string& file : {name, name + ".toml"}) {
        if (fs::is_regular_file(folder / file, none)) return (folder / file).string();
      }
    }
  }
  throw InvalidArgument(fmt::format("--config: there is no file '{}'; known by name are {}", name,
                                    fmt::join(known_configs(application), ", ")));
}

std::vector<std::string> config_files(const std::vector<std::string>& arguments,
                                      const std::string& application) {
  return take_configs(arguments, application).first;
}

std::vector<std::string> expand_config(const std::vector<std::string>& arguments,
                                       const CLI::App& command, const std::string& application) {
  return expand(arguments, command, application).arguments;
}

void add_config_option(CLI::App& command, const std::string& application) {
  command.add_option_function<std::string>(
      "--config", [](const std::string&) {},
      fmt::format("file of such settings, \"name = value\" a line (TOML), or the name of one in "
                  "apps/{}/configs; may stand several times, flags and later files win",
                  application));
}

void parse_with_config(CLI::App& app, const std::vector<std::string>& arguments,
                       const CLI::App& command, const std::string& application) {
  if (arguments.empty() || arguments[0] != command.get_name()) return parse(app, arguments);
  Expanded expanded = expand({arguments.begin() + 1, arguments.end()}, command, application);
  expanded.arguments.insert(expanded.arguments.begin(), command.get_name());
  const auto explain = [&](const CLI::ParseError& error) {
    const std::string message = error.what();
    for (const Setting& setting : expanded.settings) {
      if (names(message, setting.flag)) throw DataError(setting.file, setting.line, message);
    }
  };
  try {
    parse(app, expanded.arguments);
  } catch (const CLI::ValidationError& error) {
    explain(error);
    throw;
  } catch (const CLI::ConversionError& error) {
    explain(error);
    throw;
  }
}

}  // namespace sketchgrad::apps
