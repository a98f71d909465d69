#include "sketchgrad/apps/common/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

std::vector<std::string> arguments_of(int argc, char** argv) {
  return std::vector<std::string>(argv + std::min(argc, 1), argv + argc);
}

void parse(CLI::App& app, std::vector<std::string> arguments) {
  // CLI11 takes them from the back.
  std::reverse(arguments.begin(), arguments.end());
  app.parse(std::move(arguments));
}

int run_program(const std::string& name, const CLI::App& app, const std::function<int()>& body) {
  const auto complain = [&](const std::exception& error, int code) {
    fmt::print(stderr, "{}: error: {}\n", name, error.what());
    return code;
  };
  try {
    return body();
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return complain(error, kExitUsage);
  } catch (const InvalidArgument& error) {
    return complain(error, kExitUsage);
  } catch (const std::bad_alloc&) {
    return complain(std::runtime_error("out of memory"), kExitFailure);
  } catch (const std::exception& error) {
    return complain(error, kExitFailure);
  }
}

}  // namespace sketchgrad::apps
