#include "sketchgrad/apps/common/word_table.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace sketchgrad::apps {

namespace {

constexpr size_t kFirstSlots = 16;

uint32_t hash_of(std::string_view word) {
  return static_cast<uint32_t>(std::hash<std::string_view>()(word));
}

}  // namespace

size_t WordTable::slot_of(std::string_view word, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  const auto is_other = [&](const Slot& slot) {
    return slot.number != 0 && (slot.hash != hash || words_[slot.number - 1] != word);
  };
  while (is_other(slots_[i])) i = (i + 1) & mask;
  return i;
}

size_t WordTable::find(std::string_view word) const {
  if (slots_.empty()) return kNone;
  return size_t{slots_[slot_of(word, hash_of(word))].number} - 1;  // 0 wraps to kNone
}

size_t WordTable::insert(std::string_view word) {
  if (2 * words_.size() >= slots_.size()) grow();
  const uint32_t hash = hash_of(word);
  Slot& slot = slots_[slot_of(word, hash)];
  if (slot.number == 0) {
    words_.push_back(word);
    slot = {hash, static_cast<uint32_t>(words_.size())};
  }
  return slot.number - 1;
}

void WordTable::clear() {
  words_.clear();
  std::fill(slots_.begin(), slots_.end(), Slot{});
}

void WordTable::grow() {
  const std::vector<Slot> before =
      std::exchange(slots_, std::vector<Slot>(std::max(kFirstSlots, 2 * slots_.size())));
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : before) {
    if (slot.number == 0) continue;
    size_t i = slot.hash & mask;
    while (slots_[i].number != 0) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

}  // namespace sketchgrad::apps
