#include "sketchgrad/tools/memory/commands.h"

#include <cstdio>

#include "sketchgrad/apps/common/print.h"

namespace sketchgrad::memory {

void print_text(std::string_view lines) {
  apps::print_line(stdout, lines.substr(0, lines.rfind('\n')));
}

void print_json(const nlohmann::json& value) {
  // Paths among the arguments need not be UTF-8.
  apps::print_line(stdout, value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace sketchgrad::memory
