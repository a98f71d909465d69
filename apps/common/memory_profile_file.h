#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/framework/memory_profile.h"
#include "sketchgrad/kernels/device.h"
#include "sketchgrad/optim/optimizer.h"

namespace sketchgrad::apps {

// What a memory profile on disk says: the record, and what it is of.
struct ProfiledRun {
  std::vector<std::string> arguments;  // "lm", "train", ...
  std::string device = "cpu";
  bool planned = false;  // traced without arithmetic, and the times mean nothing
  int64_t steps = 0;     // of the run
  std::vector<StateBytes> state;
  int64_t dense_state_bytes = 0;  // the rule's moments, were all of them dense
  std::optional<kernels::cuda::DeviceMemory> device_memory;  // at the end; of CUDA
  int64_t reserved = 0;                                      // then
  MemoryRecord record;
};

// The file of a profile in its folder.
std::string memory_profile_file(const std::string& folder);

// The file's content; its format is described in docs/memory.md.
nlohmann::json to_json(const ProfiledRun& run);

// Makes the folder where it is not there. Throws IoError now where write_memory_profile would at
// the end of a run.
void check_memory_profile(const std::string& folder);
// Makes the folder where it is not there, and replaces the file. Throws IoError.
void write_memory_profile(const std::string& folder, const ProfiledRun& run);
// Throws IoError for a file that cannot be read, DataError for one that is no profile.
ProfiledRun read_memory_profile(const std::string& folder);

}  // namespace sketchgrad::apps
