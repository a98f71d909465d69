#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "sketchgrad/apps/common/word_table.h"

namespace sketchgrad::apps::xc {

// Bytes of many names, which never move: one piece of memory for thousands of names, where a string
// for each would take more than the names do.
class NameBytes {
 public:
  // The name's copy.
  std::string_view add(std::string_view name);

 private:
  std::vector<std::unique_ptr<char[]>> pieces_;
  size_t room_ = 0;  // at the end of the last piece
  char* next_ = nullptr;
};

// Names of one block with the rows that have them, in order of first appearance. It refers to the
// block's bytes.
class BlockNames {
 public:
  void clear();
  void count(std::string_view name);
  size_t size() const { return names_.size(); }
  std::string_view name(size_t i) const { return names_.word(i); }
  int32_t count_of(size_t i) const { return counts_[i]; }

 private:
  WordTable names_;
  std::vector<int32_t> counts_;
};

// Classes with names. Memory: about 50 bytes a class (more for a moment while it grows) and the
// bytes of the names.
class ClassNames {
 public:
  static constexpr int32_t kUnknown = -1;

  ClassNames() = default;
  // Those of a prepared file: name(id) for ids in [0, counts.size()), which must stay where they
  // are.
  template <class Name>
  ClassNames(std::span<const int32_t> counts, const Name& name) {
    for (size_t id = 0; id < counts.size(); ++id) {
      table_.insert(name(static_cast<int32_t>(id)));
    }
    counts_.assign(counts.begin(), counts.end());
  }

  // Of the next block of a text.
  void add(const BlockNames& block);
  // After the last one: gives ids by falling count, equal ones by first appearance.
  void rank();

  int64_t size() const { return static_cast<int64_t>(counts_.size()); }
  // kUnknown where there is no such class.
  int32_t id(std::string_view name) const;
  std::string_view name(int32_t id) const { return table_.word(place(id)); }
  int32_t count(int32_t id) const { return counts_[place(id)]; }

 private:
  size_t place(int32_t id) const {
    return static_cast<size_t>(places_.empty() ? id : places_[static_cast<size_t>(id)]);
  }

  NameBytes bytes_;
  WordTable table_;
  std::vector<int32_t> counts_;  // by place in the table
  std::vector<int32_t> places_;  // by id; empty: they are the same
  std::vector<int32_t> ids_;     // by place
};

}  // namespace sketchgrad::apps::xc
