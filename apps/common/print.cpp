#include "sketchgrad/apps/common/print.h"

namespace sketchgrad::apps {

void print_line(std::FILE* stream, std::string_view line) noexcept {
  std::fwrite(line.data(), 1, line.size(), stream);
  std::fputc('\n', stream);
}

}  // namespace sketchgrad::apps
