#pragma once

#include <nlohmann/json.hpp>

#include "sketchgrad/apps/common/memory_profile_file.h"

namespace sketchgrad::memory {

// The profile as trace events, which chrome://tracing and Perfetto (https://ui.perfetto.dev) open:
// counters of the live bytes by category, of their total and of what is reserved, and the stretches
// as slices; below those that are recorded in full, their scopes, each from the first event in it
// to the last. Counters stand still where nothing is recorded. Times of a planned run are those of
// its tracing.
nlohmann::json chrome_trace(const apps::ProfiledRun& run);

}  // namespace sketchgrad::memory
