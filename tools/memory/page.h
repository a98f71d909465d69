#pragma once

#include <string_view>

namespace sketchgrad::memory {

// page.html, which the build puts into the program; {{data}} stands where its data goes.
std::string_view page();

}  // namespace sketchgrad::memory
