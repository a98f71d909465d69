#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/apps/common/memory_profile_file.h"
#include "sketchgrad/framework/memory_profile.h"
#include "sketchgrad/kernels/device.h"
#include "sketchgrad/tools/memory/composition.h"

// The figures of a memory profile. All are bytes, but for what says otherwise.
namespace sketchgrad::memory {

struct Peak {
  std::string stretch;  // its label
  int64_t step = 0;     // its number
  std::string scope;    // of the allocation that made the peak; empty: none
  int64_t reserved = 0;
  Composition live;
};

// Blocks that were both allocated and released in the stretch with the peak, by the scope that they
// were allocated in.
struct Temporaries {
  std::string op;          // the scope
  int64_t peak_bytes = 0;  // the most that they held at one time
  int64_t total_bytes = 0;
  int64_t allocations = 0;  // their number
};

struct Failure {
  int64_t bytes = 0;  // that were asked for
  Category category{};
  std::string name;
  std::string scope;
  std::optional<Composition> live;  // then; none where that stretch was not recorded
};

struct Summary {
  std::vector<std::string> arguments;
  std::string device;
  bool planned = false;
  int64_t steps = 0;   // of the run
  int64_t events = 0;  // allocations and releases
  Peak peak;
  std::vector<Temporaries> temporaries;  // by falling peak_bytes
  int64_t peak_reserved = 0;
  std::optional<kernels::cuda::DeviceMemory> device_memory;  // at the end
  // What the device had neither free nor handed to the allocator at the end: the CUDA context,
  // libraries, other programs.
  int64_t context = 0;
  int64_t state = 0;        // of the optimizer
  int64_t dense_state = 0;  // were all of it dense
  std::optional<Failure> failure;
  std::vector<MemoryStretch> stretches;  // in time order
};

Summary summarize(const apps::ProfiledRun& run);

}  // namespace sketchgrad::memory
