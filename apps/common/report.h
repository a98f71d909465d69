#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "sketchgrad/framework/memory.h"

namespace sketchgrad::apps {

// Replaces the file, whole or not at all. Bytes that are no UTF-8 (of paths) become U+FFFD. Throws
// IoError naming the path.
void write_json(const std::string& path, const nlohmann::json& value);

// What an exception says, without the library's own number for it.
std::string problem_of(const nlohmann::json::exception& error);

// One entry a category and "total".
nlohmann::json to_json(const MemoryFigures& figures);
// A table of the peaks by category, for people.
std::string format_memory_table(const MemoryFigures& peak, const MemoryFigures& at_peak);

// The number behind a name in a file of such lines, as those of /proc are; 0 where there is none.
int64_t number_behind(const std::string& name, const std::string& path);
// The largest resident size of this process so far, as the system counts it; 0 where it does not.
int64_t peak_resident_bytes();

}  // namespace sketchgrad::apps
