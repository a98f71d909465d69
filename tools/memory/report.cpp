#include "sketchgrad/tools/memory/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/tools/memory/table.h"

namespace sketchgrad::memory {

namespace {

std::string share(int64_t bytes, int64_t of) {
  const double percent = 100 * static_cast<double>(bytes) / static_cast<double>(of);
  return of == 0 ? std::string("-") : fmt::format("{:.1f}%", percent);
}

std::string or_none(const std::string& name) { return name.empty() ? "(none)" : name; }

std::string where(const Peak& peak) {
  std::string text = peak.stretch == "step" || peak.step == 0
                         ? peak.stretch
                         : fmt::format("{} after step", peak.stretch);
  if (peak.step > 0) text += fmt::format(" {}", peak.step);
  return text + (peak.scope.empty() ? ", outside all scopes" : ", in " + peak.scope);
}

template <typename Entry>
size_t shown(const std::vector<Entry>& list, int64_t top) {
  return std::min(list.size(), static_cast<size_t>(top));
}

// "3 largest blocks of 10"
template <typename Entry>
std::string title(const char* what, const std::vector<Entry>& list, int64_t top) {
  return fmt::format("{}, the largest {} of {}\n", what, shown(list, top), list.size());
}

std::string head(const Summary& summary) {
  return fmt::format(
      "run     {}\n"
      "device  {}, {}\n"
      "steps   {}, {} allocations and releases\n"
      "peak    {} ({} bytes): {}\n",
      fmt::join(summary.arguments, " "), summary.device,
      summary.planned ? "planned: traced without arithmetic" : "measured", summary.steps,
      summary.events, format_bytes(summary.peak.live.categories.total),
      summary.peak.live.categories.total, where(summary.peak));
}

std::string by_category(const MemoryFigures& figures) {
  Table table("<>>", {"category", "bytes", "share"});
  for (const Category category : kCategories) {
    table.add({std::string(to_string(category)), format_bytes(figures[category]),
               share(figures[category], figures.total)});
  }
  table.add({"total", format_bytes(figures.total), share(figures.total, figures.total)});
  return table.text();
}

std::string by_layer(const Composition& live) {
  std::vector<Category> columns;
  std::vector<std::string> titles = {"layer", "bytes", "share"};
  for (const Category category : kCategories) {
    if (live.categories[category] == 0) continue;
    columns.push_back(category);
    titles.emplace_back(to_string(category));
  }
  Table table("<" + std::string(titles.size() - 1, '>'), titles);
  for (const LayerBytes& layer : live.layers) {
    std::vector<std::string> row = {layer.layer, format_bytes(layer.bytes.total),
                                    share(layer.bytes.total, live.categories.total)};
    for (const Category category : columns) {
      const int64_t bytes = layer.bytes[category];
      row.push_back(bytes == 0 ? "-" : format_bytes(bytes));
    }
    table.add(row);
  }
  return table.text();
}

std::string by_tensor(const Composition& live, int64_t top) {
  Table table(">>><<<", {"bytes", "share", "blocks", "category", "layer", "tensor"});
  for (size_t i = 0; i < shown(live.tensors, top); ++i) {
    const TensorBytes& tensor = live.tensors[i];
    table.add({format_bytes(tensor.bytes), share(tensor.bytes, live.categories.total),
               fmt::format("{}", tensor.blocks), std::string(to_string(tensor.category)),
               tensor.layer, or_none(tensor.name)});
  }
  return title("tensors", live.tensors, top) + table.text();
}

std::string largest_blocks(const Composition& live, int64_t top) {
  Table table("><<<", {"bytes", "category", "block", "allocated in"});
  for (size_t i = 0; i < shown(live.blocks, top); ++i) {
    const Block& block = live.blocks[i];
    table.add({format_bytes(block.bytes), std::string(to_string(block.category)),
               or_none(block.name), or_none(block.scope)});
  }
  return title("blocks", live.blocks, top) + table.text();
}

std::string temporaries(const std::vector<Temporaries>& list, int64_t top) {
  if (list.empty()) return "no op had temporaries\n";
  Table table(">>><", {"at one time", "in total", "allocations", "allocated in"});
  for (size_t i = 0; i < shown(list, top); ++i) {
    table.add({format_bytes(list[i].peak_bytes), format_bytes(list[i].total_bytes),
               fmt::format("{}", list[i].allocations), or_none(list[i].op)});
  }
  return title("ops with temporaries", list, top) + table.text();
}

std::string cache(const Summary& summary) {
  const Peak& peak = summary.peak;
  const int64_t unused = peak.reserved - peak.live.categories.total;
  std::string text = fmt::format(
      "reserved at the peak  {}, of which {} ({}) rounding and cached blocks\n"
      "most reserved         {}\n",
      format_bytes(peak.reserved), format_bytes(unused), share(unused, peak.reserved),
      format_bytes(summary.peak_reserved));
  if (const auto& device = summary.device_memory) {
    text += fmt::format(
        "device memory         {} free of {}; {} by the context, libraries, other programs\n",
        format_bytes(device->free), format_bytes(device->total), format_bytes(summary.context));
  }
  if (summary.dense_state > 0) {
    const int64_t saved = summary.dense_state - summary.state;
    text += fmt::format("optimizer state       {}; {} ({}) saved against {} of dense state\n",
                        format_bytes(summary.state), format_bytes(saved),
                        share(saved, summary.dense_state), format_bytes(summary.dense_state));
  }
  return text;
}

std::string failure_text(const Failure& failure, int64_t top) {
  std::string text =
      fmt::format("out of memory: {} ({} bytes) for {} {}, {}\n", format_bytes(failure.bytes),
                  failure.bytes, to_string(failure.category), or_none(failure.name),
                  failure.scope.empty() ? "outside all scopes" : "in " + failure.scope);
  if (!failure.live) return text + "what was live then is not in the profile\n";
  return text + "\nlive then\n" + by_category(failure.live->categories) + "\n" +
         largest_blocks(*failure.live, top);
}

}  // namespace

std::string report_text(const Summary& summary, int64_t top) {
  const Composition& live = summary.peak.live;
  std::string text = head(summary);
  for (const std::string& part :
       {cache(summary), "at the peak\n" + by_category(live.categories), by_layer(live),
        by_tensor(live, top), largest_blocks(live, top), temporaries(summary.temporaries, top)}) {
    text += "\n" + part;
  }
  if (summary.failure) text += "\n" + failure_text(*summary.failure, top);
  return text;
}

}  // namespace sketchgrad::memory
