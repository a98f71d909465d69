#pragma once

#include <string>

namespace sketchgrad::apps {

// For what catches std::bad_alloc and knows what was being done. Throws OutOfMemory: "action: ...".
[[noreturn]] void throw_out_of_memory(const std::string& action);

}  // namespace sketchgrad::apps
