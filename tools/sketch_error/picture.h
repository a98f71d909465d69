#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace sketchgrad::sketch_error {

// The entries of study() as an SVG: a row of panels for each table and moment, its relative errors
// over steps on a logarithmic axis, of all, heavy and rare rows; a line a memory.
std::string picture(const std::vector<nlohmann::json>& entries);

}  // namespace sketchgrad::sketch_error
