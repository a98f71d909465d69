#pragma once

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "sketchgrad/tests/apps/support.h"

// Built programs, from outside.
namespace sketchgrad::apps {

inline std::string program_path(const std::string& program) {
  return std::string(SKETCHGRAD_BINARY_DIR) + "/apps/" + program;
}

// That it ended with one line of an error, which has this part.
inline void check_error_of(const std::string& program, const CommandResult& result, int code,
                           const std::string& part) {
  CAPTURE(result.output);
  const size_t begin = result.output.find(program + ": error: ");
  CHECK(result.code == code);
  CHECK(begin != std::string::npos);
  CHECK(result.output.find(part) != std::string::npos);
  CHECK(std::count(result.output.begin() + static_cast<std::ptrdiff_t>(begin), result.output.end(),
                   '\n') == 1);
}

// Starts a program without a shell between, so that signals reach it. stdout and stderr go to the
// file `output`.
inline pid_t start_program(const std::string& program, const std::string& arguments,
                           const std::string& output) {
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string command =
        "exec " + program_path(program) + " " + arguments + " >" + output + " 2>&1";
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  return child;
}

// Sends a signal and returns the exit code; -1 where it did not exit by itself within a minute.
inline int exit_code_after(pid_t child, int signal) {
  ::kill(child, signal);
  int status = 0;
  for (int i = 0; i < 1200; ++i) {
    if (::waitpid(child, &status, WNOHANG) != 0)
      return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return -1;
}

inline int interrupt(pid_t child) { return exit_code_after(child, SIGINT); }

}  // namespace sketchgrad::apps
