#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sketchgrad/framework/memory_profile.h"

// Figures of a profile by name, and limits that they are to keep to.
namespace sketchgrad::memory {

// Bytes of "total", "reserved", each category ("workspace") and each layer ("layer:lstm") at its
// own peak; of layers, that in the stretches that are recorded in full.
std::map<std::string, int64_t> own_peaks(const MemoryRecord& record);

struct Limit {
  std::string name;
  int64_t bytes = 0;  // the most that is allowed
};

// "total=2GiB". Throws InvalidArgument, with the flag's name, for anything else.
Limit parse_limit(const std::string& flag, const std::string& text);

struct CheckedLimit {
  Limit limit;
  int64_t actual = 0;
  bool holds() const { return actual <= limit.bytes; }
};

// Throws InvalidArgument that lists the known names for one that is none of them.
std::vector<CheckedLimit> check_limits(const std::map<std::string, int64_t>& peaks,
                                       const std::vector<Limit>& limits);

// A table for a terminal; rows with a limit that does not hold are marked.
std::string limits_text(const std::vector<CheckedLimit>& limits);

}  // namespace sketchgrad::memory
