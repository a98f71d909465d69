#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/layers/mach_aggregation.h"
#include "sketchgrad/layers/softmax_chunks.h"

namespace sketchgrad {

// Passes over classes, for up to 64 queries at once, that leave out nearly all that cannot reach a
// query's bound, and none that can. Meta-probabilities are rounded up to 8 bits and laid out
// [places, buckets, lanes] with a lane for each query, so that a class costs one cache line a
// repetition for 64 queries, and a query alone has tables that fit the caches of a core. What is
// left is to be scored exactly.
//
// A class can only have a score above the bound t if the sum of its 8-bit numbers reaches a least
// sum, where the numbers q(p) are
//   mean, unbiased  ceil((p - low) / s), at most 255. s is a 255th of the range of p, or of what
//                   the sum of all p - low must be if that is smaller: then 255 alone suffices.
//   min             1 where p > t: all must be.
//   median          1 where p > t: half of them must be, rounded up.
class MachFilter {
 public:
  static constexpr int64_t kMostLanes = 64;

  // Numbers of at most kMostLanes queries; they must live as long as this.
  MachFilter(const MachScorer& scorer, std::span<const int32_t> queries);

  // From now on classes are wanted with scores above bounds [queries.size()], which are not NaN.
  void set_bounds(const float* bounds);

  struct Candidate {
    int32_t class_id;
    int32_t lane;  // of queries: which of them
  };
  // Calls take(candidates, count) as often as it needs to, from this thread.
  template <class Take>
  void pass(IndexRange classes, const Take& take) const;

  // Bytes of its table, for these sizes.
  static int64_t table_bytes(int64_t places, int64_t buckets, int64_t queries);

 private:
  // How p becomes q, and what the sum of q must reach.
  struct Rounding {
    float low = 0;
    float inverse = 0;  // 1 / s; 0: q is 1 where p > low
    uint16_t least = 0;
  };
  struct Range {
    float low = 0;
    float high = 0;
    bool finite = true;  // no value is +infinity (minus infinity and NaN are below any)
  };

  // Sums [classes, lanes] of classes that follow each other, as many as are worth a task's cache.
  static constexpr int64_t kSums = 8192;
  static constexpr int64_t kHashes = 8192;
  // Sums that are compared at once.
  static constexpr int64_t kCompared = 64;
  static constexpr int64_t kCandidates = 256;

  static int64_t lanes_for(int64_t queries);
  int64_t query(int64_t lane) const { return queries_[static_cast<size_t>(lane)]; }
  Range range_of(int64_t query_number) const;
  Rounding rounding(const Range& range, float bound) const;
  Rounding rounding_of_sums(const Range& range, float bound, double mean) const;
  static void round_up(const Rounding& rounding, const float* values, int64_t count, uint8_t* out);
  void fill_table(const Rounding* roundings);
  void fill_buckets(const Rounding* roundings, int64_t place, IndexRange buckets);
  void add_up(const int32_t* hashes, int64_t classes, uint16_t* sums) const;
  bool any_reaches(const uint16_t* sums) const;
  int64_t classes_at_once() const;

  const MachScorer& scorer_;
  std::span<const int32_t> queries_;
  int64_t count_;
  int64_t lanes_;
  Range ranges_[kMostLanes];
  alignas(64) uint16_t least_[kCompared];  // by lane, repeated
  kernels::ScratchArray<uint8_t> table_;
};

template <class Take>
void MachFilter::pass(IndexRange classes, const Take& take) const {
  alignas(64) uint16_t sums[kSums];
  int32_t room[kHashes];
  Candidate candidates[kCandidates];
  int64_t found = 0;
  const int64_t end = classes.begin + classes.count, step = classes_at_once();
  for (int64_t begin = classes.begin; begin < end; begin += step) {
    const int64_t count = std::min(step, end - begin);
    add_up(scorer_.map().buckets_of_classes(begin, count, room), count, sums);
    const int64_t all = count * lanes_;
    // What is behind the last sum is compared too, and then not looked at.
    std::fill(sums + all, sums + (all + kCompared - 1) / kCompared * kCompared, uint16_t{0});
    for (int64_t from = 0; from < all; from += kCompared) {
      if (!any_reaches(sums + from)) continue;
      for (int64_t i = from; i < std::min(all, from + kCompared); ++i) {
        if (sums[i] < least_[i % kCompared]) continue;
        candidates[found++] = {static_cast<int32_t>(begin + i / lanes_),
                               static_cast<int32_t>(i % lanes_)};
        if (found < kCandidates) continue;
        take(candidates, found);
        found = 0;
      }
    }
  }
  if (found > 0) take(candidates, found);
}

}  // namespace sketchgrad
