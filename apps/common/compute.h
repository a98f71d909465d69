#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

#include "sketchgrad/framework/device.h"

namespace sketchgrad::apps {

// Where and how a command computes.
struct ComputeOptions {
  int threads = 0;  // 0: as many as there are processors
  std::string device = "cpu";
  std::string precision = "fp32";
};

void add_options(CLI::App& command, ComputeOptions& options);

// Bounds the threads of all kernels and sets the precision of products while it lives. Throws as
// parse_device and set_product_precision do.
class Compute {
 public:
  explicit Compute(const ComputeOptions& options);
  ~Compute();
  Compute(const Compute&) = delete;
  Compute& operator=(const Compute&) = delete;

  Device device() const { return device_; }
  int threads() const { return threads_; }

 private:
  struct ThreadLimit;
  Device device_;
  int threads_;
  std::unique_ptr<ThreadLimit> limit_;
};

}  // namespace sketchgrad::apps
