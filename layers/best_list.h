#pragma once

#include <algorithm>
#include <cstdint>

namespace sketchgrad {

// A class, or a bucket, and its score.
struct Scored {
  float score;
  int32_t id;
};

// The order of results: by falling score, then by id. A total order as long as no score is NaN, so
// the k best of a set are the same in whatever order it is seen.
inline bool better(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// The k best of all that has been added, in memory of the caller's ([k], k >= 1).
class BestList {
 public:
  BestList() = default;
  BestList(Scored* entries, int64_t k) : entries_(entries), k_(k) {}

  // Ids must be different.
  void add(Scored entry) {
    if (count_ < k_) {
      entries_[count_++] = entry;
      std::push_heap(entries_, entries_ + count_, better);
    } else if (better(entry, entries_[0])) {
      std::pop_heap(entries_, entries_ + k_, better);
      entries_[k_ - 1] = entry;
      std::push_heap(entries_, entries_ + k_, better);
    }
  }
  // Whether add() would change anything.
  bool takes(Scored entry) const { return count_ < k_ || better(entry, entries_[0]); }
  int64_t count() const { return count_; }
  bool full() const { return count_ == k_; }
  // Of those held; count() > 0.
  const Scored& worst() const { return entries_[0]; }
  // Best first. Nothing can be added afterwards.
  const Scored* sorted() {
    std::sort_heap(entries_, entries_ + count_, better);
    return entries_;
  }

 private:
  Scored* entries_ = nullptr;  // a heap with its worst in front
  int64_t k_ = 0;
  int64_t count_ = 0;
};

}  // namespace sketchgrad
