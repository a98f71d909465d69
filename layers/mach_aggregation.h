#pragma once

#include <string>
#include <vector>

#include "sketchgrad/layers/mach_map.h"

namespace sketchgrad {

// The score of class c from its R meta-probabilities p_r = P_r[h_r(c)] (Medini et al. 2019; its
// theorems are about the unbiased estimate):
//   mean      (p_1 + .. + p_R) / R
//   min       the smallest, as a count-min sketch is read
//   median    of an even number: the mean of the middle two
//   unbiased  B / (B - 1) (mean - 1 / B). Where P_r[b] is the sum of the probabilities of the
//             classes in b, its expectation over the hash functions is the class's probability.
//             The same ranking as the mean, but for rounding; it may be negative. B > 1.
// In float32, summed in order of place. A NaN among the p_r counts as minus infinity, and so does a
// score that is NaN.
enum class MachAggregation : uint8_t { mean, min, median, unbiased };
// "mean", "min", "median" or "unbiased"; throws InvalidArgument for any other word.
MachAggregation parse_mach_aggregation(const std::string& word);

// values [count], 1 <= count, none NaN; they may be reordered.
float mach_aggregate(MachAggregation, float* values, int64_t count, int64_t buckets);

// In place, on the CPU: p -> log p, at least the logarithm of the smallest normal number. The mean
// then ranks classes by the geometric mean of p, as a product of experts does: unlike under the
// mean of p, one repetition that is sure of a wrong bucket does not lift all of its classes above a
// class that every repetition holds possible.
void take_logarithms(const std::vector<Tensor>& meta);

// What the meta-classifiers say of a batch, and what follows for a class. `meta` holds a float32
// tensor [queries, buckets] on the CPU for each place of the map. Map and tensors must live as long
// as this.
class MachScorer {
 public:
  // 8-bit sums over so many places fit 16 bits (mach_filter.h).
  static constexpr int64_t kMostPlaces = 256;

  // Throws InvalidArgument, beginning with "[name]", for tensors or an aggregation that do not fit.
  MachScorer(const std::string& name, const MachMap& map, const std::vector<Tensor>& meta,
             MachAggregation aggregation);

  const MachMap& map() const { return map_; }
  MachAggregation aggregation() const { return aggregation_; }
  int64_t queries() const { return queries_; }
  // P of one place and query: [buckets]. May hold NaN.
  const float* values(int64_t place, int64_t query) const {
    return meta_[static_cast<size_t>(place)] + query * map_.buckets();
  }
  float value(int64_t place, int64_t query, int64_t bucket) const {
    return without_nan(values(place, query)[bucket]);
  }
  // Of the class with these buckets [places].
  float score(int64_t query, const int32_t* buckets) const {
    float values[kMostPlaces];
    for (int64_t p = 0; p < map_.places(); ++p) values[p] = value(p, query, buckets[p]);
    return mach_aggregate(aggregation_, values, map_.places(), map_.buckets());
  }
  float score_of_class(int64_t query, int64_t class_id) const;

  static float without_nan(float value);

 private:
  const MachMap& map_;
  MachAggregation aggregation_;
  int64_t queries_ = 0;
  std::vector<const float*> meta_;
};

}  // namespace sketchgrad
