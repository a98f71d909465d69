#pragma once

#include <cstdint>
#include <string>

#include "sketchgrad/tools/memory/summary.h"

namespace sketchgrad::memory {

// For a terminal; of tensors, blocks and temporaries the first `top`.
std::string report_text(const Summary& summary, int64_t top);

}  // namespace sketchgrad::memory
