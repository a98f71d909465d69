#include "sketchgrad/tools/memory/pytorch_snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/tools/memory/pickle.h"

namespace sketchgrad::memory {

namespace {

using apps::ProfiledRun;
using nlohmann::json;

constexpr int64_t kBase = int64_t{1} << 40;

// Where blocks lie that are live at the same time.
class AddressSpace {
 public:
  int64_t place(int64_t bytes) {
    int64_t address = kBase;
    auto next = sizes_.begin();
    for (; next != sizes_.end() && next->first - address < bytes; ++next) {
      address = next->first + next->second;
    }
    sizes_.emplace_hint(next, address, bytes);
    end_ = std::max(end_, address + bytes);
    return address;
  }
  void remove(int64_t address) { sizes_.erase(address); }
  int64_t end() const { return end_; }  // of all that ever was

 private:
  std::map<int64_t, int64_t> sizes_;
  int64_t end_ = kBase;
};

class Snapshot {
 public:
  explicit Snapshot(const ProfiledRun& run)
      : run_(run), record_(run.record), failure_(run.record.failure) {}

  std::string made() {
    pickle_.begin_dict();
    pickle_.put("device_traces");
    pickle_.begin_list();
    pickle_.begin_list();
    for (const RecordedStretch& stretch : record_.recorded) replay(stretch);
    come_to(std::numeric_limits<int64_t>::max());
    // The viewer (of 2024) stumbles over categories without this one.
    put_entry("snapshot", 0, 0, {}, {{"category", "unknown"}});
    pickle_.append();
    pickle_.put("segments");
    pickle_.put(segments());
    pickle_.end_dict();
    return pickle_.finish();
  }

 private:
  struct Placed {
    RecordedBlock block;
    int64_t address = 0;
    json frames;
  };

  // Innermost first: the tensor, the scopes, the stretch.
  json frames(Category category, int32_t name, int32_t scope) const {
    const auto frame = [](std::string_view file, std::string_view function) {
      return json{{"filename", file}, {"line", 0}, {"name", function}};
    };
    json result = json::array({frame(to_string(category), record_.text(name))});
    const std::string_view path = record_.text(scope);
    for (size_t end = path.size(); end > 0;) {
      const size_t slash = path.rfind('/', end - 1);
      const size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
      result.push_back(frame("scope", path.substr(begin, end - begin)));
      end = begin > 0 ? begin - 1 : 0;
    }
    result.push_back(frame("stretch", fmt::format("{} {}", stretch_->label, stretch_->step)));
    return result;
  }

  void put_entry(const char* action, int64_t time, int64_t bytes, const json& frames, json entry) {
    entry.update({{"action", action},
                  {"size", bytes},
                  {"stream", 0},
                  {"time_us", time / 1000},
                  {"frames", frames}});
    pickle_.put(entry);
    pickle_.append();
  }

  void allocate(int64_t time, const RecordedBlock& block) {
    const int64_t address = addresses_.place(block.bytes);
    const json stack = frames(block.category, block.name, block.scope);
    put_entry("alloc", time, block.bytes, stack,
              {{"addr", address}, {"category", to_string(block.category)}});
    live_[block.block] = {block, address, stack};
  }

  void release(int64_t time, int64_t number, int32_t scope) {
    const Placed& placed = live_.at(number);
    const json stack = frames(placed.block.category, placed.block.name, scope);
    for (const char* action : {"free_requested", "free_completed"}) {
      put_entry(action, time, placed.block.bytes, stack, {{"addr", placed.address}});
    }
    addresses_.remove(placed.address);
    live_.erase(number);
  }

  // From what was live at the end of the stretch before.
  void begin(const RecordedStretch& stretch) {
    stretch_ = &stretch.stretch;
    std::set<int64_t> wanted, unwanted;
    for (const RecordedBlock& block : stretch.live) wanted.insert(block.block);
    for (const auto& [number, placed] : live_) {
      if (!wanted.contains(number)) unwanted.insert(number);
    }
    const int64_t time = stretch.stretch.begin;
    for (const int64_t number : unwanted) release(time, number, live_.at(number).block.scope);
    for (const RecordedBlock& block : stretch.live) {
      if (!live_.contains(block.block)) allocate(time, block);
    }
  }

  void replay(const RecordedStretch& stretch) {
    come_to(stretch.stretch.begin);
    begin(stretch);
    for (const RecordedEvent& event : stretch.events) {
      come_to(event.time);
      if (event.change > 0) {
        allocate(event.time, {event.block, event.change, event.category, event.name, event.scope});
      } else {
        release(event.time, event.block, event.scope);
      }
    }
  }

  // Tells of the failure, if it is before this time.
  void come_to(int64_t time) {
    if (!failure_ || failure_->time >= time) return;
    put_entry("oom", failure_->time, failure_->bytes,
              frames(failure_->category, failure_->name, failure_->scope),
              {{"device_free", run_.device_memory ? run_.device_memory->free : 0}});
    failure_.reset();
  }

  json segments() const {
    if (addresses_.end() == kBase) return json::array();
    std::map<int64_t, const Placed*> placed;
    for (const auto& [number, entry] : live_) placed[entry.address] = &entry;
    json blocks = json::array();
    int64_t address = kBase, allocated = 0;
    const auto gap_to = [&](int64_t end) {
      if (end == address) return;
      blocks.push_back({{"address", address},
                        {"size", end - address},
                        {"requested_size", 0},
                        {"state", "inactive"},
                        {"frames", json::array()}});
    };
    for (const auto& [begin, entry] : placed) {
      gap_to(begin);
      const int64_t bytes = entry->block.bytes;
      blocks.push_back({{"address", begin},
                        {"size", bytes},
                        {"requested_size", bytes},
                        {"state", "active_allocated"},
                        {"frames", entry->frames}});
      allocated += bytes;
      address = begin + bytes;
    }
    gap_to(addresses_.end());
    return json::array({{{"device", 0},
                         {"address", kBase},
                         {"total_size", addresses_.end() - kBase},
                         {"allocated_size", allocated},
                         {"active_size", allocated},
                         {"requested_size", allocated},
                         {"stream", 0},
                         {"segment_type", "large"},
                         {"is_expandable", false},
                         {"frames", json::array()},
                         {"blocks", blocks}}});
  }

  const ProfiledRun& run_;
  const MemoryRecord& record_;
  std::optional<RecordedFailure> failure_;  // until it is told
  const MemoryStretch* stretch_ = nullptr;
  AddressSpace addresses_;
  std::map<int64_t, Placed> live_;
  Pickle pickle_;
};

}  // namespace

std::string pytorch_snapshot(const ProfiledRun& run) { return Snapshot(run).made(); }

}  // namespace sketchgrad::memory
