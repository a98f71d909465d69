#pragma once

#include <cstdio>
#include <string_view>

namespace sketchgrad::apps {

// A line for people. A stream that cannot take it (a full disk, a closed terminal) is no reason to
// end a run, so nothing is thrown; std::ferror(stream) tells.
void print_line(std::FILE* stream, std::string_view line) noexcept;

}  // namespace sketchgrad::apps
