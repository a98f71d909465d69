#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sketchgrad/tools/bench/report.h"

namespace sketchgrad::bench {

struct Options {
  int threads = 0;  // of all kernels
  bool cpu_time = false;
  int64_t rows = 1'000'000;
  int64_t dim = 256;
  int64_t active = 16'384;
  // Of the group mach.
  int64_t mach_classes = 1'000'000;
  int64_t mach_repetitions = 8;
  int64_t mach_buckets = 20'000;
  int64_t mach_queries = 64;
  double seconds = 1.0;  // a case
};

// A set of lines that can be asked for alone.
struct Group {
  std::string name;  // "kernels.gemm"
  std::function<void(const Options&, Report&)> run;
};

// Bandwidths, arithmetic peak, best product. Sets the report's peaks; must run first.
void run_machine(const Options&, Report&);

std::vector<Group> kernel_groups();
std::vector<Group> optimizer_groups();
std::vector<Group> softmax_groups();
std::vector<Group> mach_groups();
std::vector<Group> step_groups();
std::vector<Group> memory_groups();

// Measures the cases, interleaved, and adds a line each.
void run_cases(const std::vector<Case>& cases, const Options&, Report&);

}  // namespace sketchgrad::bench
