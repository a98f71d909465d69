#pragma once

#include <functional>
#include <ostream>
#include <string>

namespace sketchgrad::apps {

// Files that are written whole or not at all. `what` begins the messages: "[what] path: ...".

// Writes to a temporary file beside `path`, syncs it and renames it. Throws IoError naming the path
// and the system's reason; what was there then stays as it was.
void replace_file(const std::string& what, const std::string& path,
                  const std::function<void(std::ostream&)>& write);
// Throws IoError now where replacing the file would after hours of training.
void check_replaceable(const std::string& what, const std::string& path);

}  // namespace sketchgrad::apps
