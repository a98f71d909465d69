#include "sketchgrad/tools/memory/html.h"

#include <string_view>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/tools/memory/page.h"

namespace sketchgrad::memory {

namespace {

using nlohmann::json;

constexpr std::string_view kPlace = "{{data}}";

// JSON that no HTML parser finds a tag or a comment in: what could begin one is within strings.
std::string embedded(const json& value) {
  std::string result;
  for (const char c : value.dump(-1, ' ', false, json::error_handler_t::replace)) {
    if (c == '<') {
      result += "\\u003c";
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace

std::string html_page(const apps::ProfiledRun& run, const json& report) {
  json categories = json::array();
  for (const Category category : kCategories) categories.push_back(to_string(category));
  const json data = {
      {"profile", apps::to_json(run)}, {"report", report}, {"categories", categories}};
  std::string result(page());
  return result.replace(result.find(kPlace), kPlace.size(), embedded(data));
}

}  // namespace sketchgrad::memory
