#include "sketchgrad/apps/common/command_line.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/framework/check.h"

namespace sketchgrad::apps {

std::vector<std::string> arguments_of(int argc, char** argv) {
  return std::vector<std::string>(argv + std::min(argc, 1), argv + argc);
}

std::vector<std::string> command_of(const std::string& program,
                                    std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program);
  return arguments;
}

namespace {

// CLI11 would say that there is no command.
void check_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  check(names.empty() || word.starts_with('-') ||
            std::find(names.begin(), names.end(), word) != names.end(),
        "there is no command '{}'; there are {}", word, fmt::join(names, ", "));
}

}  // namespace

void parse(CLI::App& app, std::vector<std::string> arguments) {
  if (!arguments.empty()) check_command(app, arguments[0]);
  for (const std::string& argument : arguments) {
    // CLI11 would take the next argument for the value.
    check(!argument.starts_with("--") || argument.find('=') + 1 != argument.size(),
          "{}: there is no value behind the =", argument);
  }
  // CLI11 takes them from the back.
  std::reverse(arguments.begin(), arguments.end());
  app.parse(std::move(arguments));
}

std::string default_of(bool flag) { return flag ? "[on]" : "[off]"; }

void refuse_given(const CLI::App& command, const std::vector<const char*>& flags,
                  const std::string& owner) {
  for (const char* flag : flags) {
    check(command.count(flag) == 0, "{}: {} has no such setting", flag, owner);
  }
}

namespace {

int complain(const std::string& name, const char* problem, int code) {
  print_line(stderr, fmt::format("{}: error: {}", name, problem));
  return code;
}

int run_body(const std::string& name, const CLI::App& app, const std::function<int()>& body) {
  try {
    return body();
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return complain(name, error.what(), kExitUsage);
  } catch (const InvalidArgument& error) {
    return complain(name, error.what(), kExitUsage);
  } catch (const std::bad_alloc&) {
    return complain(name, "the system has no memory left", kExitFailure);
  } catch (const std::exception& error) {
    return complain(name, error.what(), kExitFailure);
  }
}

}  // namespace

int run_program(const std::string& name, const CLI::App& app, const std::function<int()>& body) {
  const int code = run_body(name, app, body);
  // Results that are lost on their way are no success.
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  // One error is told, and it may have been this one.
  if (code != 0 && code != kExitStopped) return code;
  const std::string problem = fmt::format("[stdout] cannot be written: {}", std::strerror(errno));
  return complain(name, problem.c_str(), code == 0 ? kExitFailure : code);
}

}  // namespace sketchgrad::apps
