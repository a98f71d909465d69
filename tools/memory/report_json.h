#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>

#include "sketchgrad/tools/memory/summary.h"

namespace sketchgrad::memory {

// Format "sketchgrad-memory-report", version 1; of blocks the largest `top`. Lists are in falling
// order of bytes, but for the stretches, which are in time order.
nlohmann::json report_json(const Summary& summary, int64_t top);

}  // namespace sketchgrad::memory
