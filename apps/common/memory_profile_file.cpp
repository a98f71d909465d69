#include "sketchgrad/apps/common/memory_profile_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <utility>

#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad::apps {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kFormat = "sketchgrad-memory-profile";
constexpr int kVersion = 1;

void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw IoError(fmt::format("[memory profile] {}: cannot be made: {}", folder, error.message()));
  }
}

json to_json(const MemoryStretch& stretch) {
  return {{"label", stretch.label},
          {"step", stretch.step},
          {"begin", stretch.begin},
          {"at_peak", apps::to_json(stretch.at_peak)}};
}

MemoryFigures figures_from(const json& in) {
  MemoryFigures figures;
  for (const Category category : kCategories) in.at(to_string(category)).get_to(figures[category]);
  in.at("total").get_to(figures.total);
  return figures;
}

MemoryStretch stretch_from(const json& in) {
  return {in.at("label"), in.at("step"), in.at("begin"), figures_from(in.at("at_peak"))};
}

// Rows, not objects: there are thousands.
json row_of(const RecordedBlock& block) {
  return json::array(
      {block.block, block.bytes, static_cast<int>(block.category), block.name, block.scope});
}

json row_of(const RecordedEvent& event) {
  return json::array({event.time, event.block, event.change, event.reserved,
                      static_cast<int>(event.category), event.name, event.scope});
}

// What a profile must hold so that whoever reads it need not look.
class Reader {
 public:
  Reader(const json& file, std::string path) : file_(file), path_(std::move(path)) {}

  ProfiledRun run() {
    require(file_.is_object() && file_.value("format", "") == kFormat, "this is no memory profile");
    const int version = file_.at("version");
    require(version == kVersion,
            fmt::format("version {} of the format, this program reads {}", version, kVersion));
    ProfiledRun run;
    file_.at("arguments").get_to(run.arguments);
    file_.at("device").get_to(run.device);
    file_.at("planned").get_to(run.planned);
    file_.at("steps").get_to(run.steps);
    for (const json& entry : file_.at("optimizer_state")) {
      run.state.push_back({entry.at("name"), entry.at("bytes")});
    }
    file_.at("dense_optimizer_state_bytes").get_to(run.dense_state_bytes);
    if (const json& device = file_.at("device_memory"); !device.is_null()) {
      run.device_memory = {device.at("free"), device.at("total")};
      device.at("reserved").get_to(run.reserved);
    }
    run.record = record();
    return run;
  }

 private:
  MemoryRecord record() {
    MemoryRecord record;
    file_.at("texts").get_to(record.texts);
    texts_ = record.texts.size();
    for (const json& stretch : file_.at("recorded")) record.recorded.push_back(recorded(stretch));
    file_.at("peak").get_to(record.peak);
    require(record.peak < record.recorded.size(), "\"peak\" is none of \"recorded\"");
    for (const json& in : file_.at("stretches")) record.stretches.push_back(stretch_from(in));
    if (const json& failure = file_.at("failure"); !failure.is_null()) {
      record.failure = {failure.at("time"), failure.at("bytes"), category(failure.at("category")),
                        text(failure.at("name")), text(failure.at("scope"))};
    }
    file_.at("events").get_to(record.events);
    file_.at("peak_reserved").get_to(record.peak_reserved);
    record.own_peaks = figures_from(file_.at("own_peaks"));
    return record;
  }

  void require(bool condition, const std::string& problem) const {
    if (!condition) throw DataError(path_, 0, problem);
  }

  int32_t text(const json& number) const {
    const auto value = number.get<int64_t>();
    require(value >= 0 && value < static_cast<int64_t>(texts_),
            fmt::format("{} is no number of \"texts\"", value));
    return static_cast<int32_t>(value);
  }

  Category category(const json& number) const {
    const auto value = number.get<int64_t>();
    require(value >= 0 && value < kCategoryCount, fmt::format("{} is no category", value));
    return static_cast<Category>(value);
  }

  RecordedStretch recorded(const json& in) const {
    RecordedStretch stretch{stretch_from(in), {}, {}};
    std::map<int64_t, int64_t> live;
    for (const json& row : in.at("live")) {
      const RecordedBlock block{row.at(0), row.at(1), category(row.at(2)), text(row.at(3)),
                                text(row.at(4))};
      require(block.bytes > 0 && live.emplace(block.block, block.bytes).second,
              fmt::format("block {} is live twice or has no bytes", block.block));
      stretch.live.push_back(block);
    }
    for (const json& row : in.at("events")) {
      const RecordedEvent event{row.at(0),           row.at(1),       row.at(2),      row.at(3),
                                category(row.at(4)), text(row.at(5)), text(row.at(6))};
      const bool fits = event.change > 0
                            ? live.emplace(event.block, event.change).second
                            : live.contains(event.block) && live[event.block] == -event.change;
      require(fits, fmt::format("block {} changes by {} bytes, which it cannot", event.block,
                                event.change));
      if (event.change < 0) live.erase(event.block);
      stretch.events.push_back(event);
    }
    return stretch;
  }

  const json& file_;
  std::string path_;
  size_t texts_ = 0;
};

}  // namespace

std::string memory_profile_file(const std::string& folder) {
  return (fs::path(folder) / "memory.json").string();
}

json to_json(const ProfiledRun& run) {
  json recorded = json::array();
  for (const RecordedStretch& stretch : run.record.recorded) {
    json entry = to_json(stretch.stretch);
    entry["live"] = json::array();
    for (const RecordedBlock& block : stretch.live) entry["live"].push_back(row_of(block));
    entry["events"] = json::array();
    for (const RecordedEvent& event : stretch.events) entry["events"].push_back(row_of(event));
    recorded.push_back(std::move(entry));
  }
  json stretches = json::array();
  for (const MemoryStretch& stretch : run.record.stretches) stretches.push_back(to_json(stretch));
  json state = json::array();
  for (const StateBytes& entry : run.state) {
    state.push_back({{"name", entry.name}, {"bytes", entry.bytes}});
  }
  json file = {{"format", kFormat},
               {"version", kVersion},
               {"arguments", run.arguments},
               {"device", run.device},
               {"planned", run.planned},
               {"steps", run.steps},
               {"optimizer_state", state},
               {"dense_optimizer_state_bytes", run.dense_state_bytes},
               {"device_memory", nullptr},
               {"texts", run.record.texts},
               {"recorded", recorded},
               {"peak", run.record.peak},
               {"stretches", stretches},
               {"failure", nullptr},
               {"events", run.record.events},
               {"peak_reserved", run.record.peak_reserved},
               {"own_peaks", apps::to_json(run.record.own_peaks)}};
  if (run.device_memory) {
    file["device_memory"] = {{"free", run.device_memory->free},
                             {"total", run.device_memory->total},
                             {"reserved", run.reserved}};
  }
  if (const auto& failure = run.record.failure) {
    file["failure"] = {{"time", failure->time},
                       {"bytes", failure->bytes},
                       {"category", static_cast<int>(failure->category)},
                       {"name", failure->name},
                       {"scope", failure->scope}};
  }
  return file;
}

void check_memory_profile(const std::string& folder) {
  make_folder(folder);
  check_replaceable("memory profile", memory_profile_file(folder));
}

void write_memory_profile(const std::string& folder, const ProfiledRun& run) {
  make_folder(folder);
  // Paths among the arguments need not be UTF-8.
  const std::string text = to_json(run).dump(-1, ' ', false, json::error_handler_t::replace);
  replace_file("memory profile", memory_profile_file(folder),
               [&](std::ostream& file) { file << text << '\n'; });
}

ProfiledRun read_memory_profile(const std::string& folder) {
  const std::string path = memory_profile_file(folder);
  std::ifstream file(path);
  if (!file) {
    throw IoError(
        fmt::format("[memory profile] {}: cannot be read: {}", path, std::strerror(errno)));
  }
  try {
    const json parsed = json::parse(file);
    return Reader(parsed, path).run();
  } catch (const json::parse_error& error) {
    throw DataError(path, 0, fmt::format("is cut short or no JSON, at byte {}", error.byte));
  } catch (const json::exception& error) {
    throw DataError(path, 0, "this is no memory profile: " + problem_of(error));
  }
}

}  // namespace sketchgrad::apps
