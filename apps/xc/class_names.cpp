#include "sketchgrad/apps/xc/class_names.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "sketchgrad/framework/check.h"

namespace sketchgrad::apps::xc {

namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr auto kMost = static_cast<size_t>(std::numeric_limits<int32_t>::max());

}  // namespace

std::string_view NameBytes::add(std::string_view name) {
  if (name.size() > room_) {
    room_ = std::max(kPieceBytes, name.size());
    pieces_.emplace_back(new char[room_]);  // make_unique would write zeros
    next_ = pieces_.back().get();
  }
  if (!name.empty()) std::memcpy(next_, name.data(), name.size());
  const std::string_view copy(next_, name.size());
  next_ += name.size();
  room_ -= name.size();
  return copy;
}

void BlockNames::clear() {
  names_.clear();
  counts_.clear();
}

void BlockNames::count(std::string_view name) {
  const size_t i = names_.insert(name);
  if (i == counts_.size()) counts_.push_back(0);
  ++counts_[i];
}

void ClassNames::add(const BlockNames& block) {
  for (size_t i = 0; i < block.size(); ++i) {
    const std::string_view name = block.name(i);
    size_t place = table_.find(name);
    if (place == WordTable::kNone) {
      place = table_.insert(bytes_.add(name));
      check(place < kMost, "[classes] more than {} of them", kMost);
      counts_.push_back(0);
    }
    check(counts_[place] <= std::numeric_limits<int32_t>::max() - block.count_of(i),
          "[classes] '{}' is a label of more than {} rows", name, kMost);
    counts_[place] += block.count_of(i);
  }
}

void ClassNames::rank() {
  places_.resize(counts_.size());
  std::iota(places_.begin(), places_.end(), 0);
  std::sort(places_.begin(), places_.end(), [&](int32_t a, int32_t b) {
    const int32_t count_a = counts_[static_cast<size_t>(a)];
    const int32_t count_b = counts_[static_cast<size_t>(b)];
    return count_a != count_b ? count_a > count_b : a < b;
  });
  ids_.resize(counts_.size());
  for (size_t id = 0; id < places_.size(); ++id) {
    ids_[static_cast<size_t>(places_[id])] = static_cast<int32_t>(id);
  }
}

int32_t ClassNames::id(std::string_view name) const {
  const size_t place = table_.find(name);
  if (place == WordTable::kNone) return kUnknown;
  return ids_.empty() ? static_cast<int32_t>(place) : ids_[place];
}

}  // namespace sketchgrad::apps::xc
