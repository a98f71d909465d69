#pragma once

#include <string>
#include <vector>

#include "sketchgrad/layers/mach_top_k.h"

namespace sketchgrad {

// The classes of every bucket of a MachMap: what it takes to find classes from buckets.
class MachIndex {
 public:
  // `map` must live as long as this. 4 bytes a place and class, and 4 a place and bucket, of
  // category index.
  MachIndex(const std::string& name, const MachMap& map);

  struct ClassList {
    const int32_t* ids;  // increasing
    int64_t count;
  };
  ClassList classes_of(int64_t place, int64_t bucket) const;

  struct Found {
    // As of mach_top_k, from the classes that were found alone. Where these are fewer than k, ids
    // are -1 and scores minus infinity behind them.
    TopK top;
    // int32 [queries]: 1 where this is certain to be the result of mach_top_k.
    Tensor proven;
  };
  // The k best for each query of the classes that are in one of the `best` best buckets of at least
  // one repetition (equal buckets in order of number), by their exact scores. With `best` = buckets
  // this is mach_top_k. Throws InvalidArgument for k outside [1, classes], best outside
  // [1, buckets], and tensors that do not fit.
  //
  // This is the threshold algorithm (Fagin, Lotem, Naor: "Optimal aggregation algorithms for
  // middleware", 2003), cut off at `best`. The best bucket of every repetition is taken, then the
  // second best, and so on. A class that has not come up by then has at most the next bucket's
  // meta-probability in every repetition: once the k-th score is above that of such a class, the
  // result is proven, and the search ends.
  Found top_k(const std::vector<Tensor>& meta, int64_t k, int64_t best,
              MachAggregation aggregation = MachAggregation::mean) const;
  // mach_top_k, by the index where `best` buckets are enough of a proof, otherwise by all classes.
  TopK exact_top_k(const std::vector<Tensor>& meta, int64_t k, int64_t best,
                   MachAggregation aggregation = MachAggregation::mean) const;

  int64_t bytes() const { return begin_.bytes() + classes_.bytes(); }

 private:
  class Query;
  void fill(int64_t place);
  Found search(const MachScorer& scorer, int64_t k, int64_t best) const;

  const MachMap& map_;
  Tensor begin_;    // int32 [places, buckets + 1]
  Tensor classes_;  // int32 [places, classes], by bucket
};

}  // namespace sketchgrad
