#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "sketchgrad/apps/common/memory_profile_file.h"

namespace sketchgrad::memory {

// A page that shows the profile, and needs no other file and no network. `report` is what
// `memory report --json` tells of it.
std::string html_page(const apps::ProfiledRun& run, const nlohmann::json& report);

}  // namespace sketchgrad::memory
