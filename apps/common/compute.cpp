#include "sketchgrad/apps/common/compute.h"

#include <tbb/global_control.h>
#include <tbb/info.h>

#include <cstddef>

#include "sketchgrad/apps/common/numbers.h"

namespace sketchgrad::apps {

void add_options(CLI::App& command, ComputeOptions& options) {
  command
      .add_option("--threads", options.threads,
                  "at most so many; 0: all processors. Results do not depend on it")
      ->check(whole_in(0, 1024))
      ->capture_default_str();
  command.add_option("--device", options.device, "cpu or cuda")->capture_default_str();
  command
      .add_option(
          "--precision", options.precision,
          "what matrix products round their factors to: fp32 (not at all) or, on cuda, tf32 "
          "or bf16. LSTM layers take tf32 for bf16")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16"}))
      ->capture_default_str();
}

struct Compute::ThreadLimit {
  tbb::global_control control;
};

Compute::Compute(const ComputeOptions& options)
    : device_(parse_device(options.device)),
      threads_(options.threads > 0 ? options.threads : tbb::info::default_concurrency()),
      limit_(new ThreadLimit{tbb::global_control(tbb::global_control::max_allowed_parallelism,
                                                 static_cast<size_t>(threads_))}) {
  set_product_precision(device_, parse_product_precision(options.precision));
}

Compute::~Compute() { set_product_precision(device_, ProductPrecision::fp32); }

}  // namespace sketchgrad::apps
