#pragma once

#include <span>
#include <string>
#include <vector>

#include "sketchgrad/layers/mach_aggregation.h"
#include "sketchgrad/layers/output_layer.h"

// Scores of classes from the meta-probabilities of MACH (mach_aggregation.h): of a batch of
// queries, by one float32 tensor [queries, buckets] on the CPU for each place of the map.
namespace sketchgrad {

// The k best of all classes for each query, exactly; ids and scores [queries, k] on the CPU. All
// classes are scored, but queries x classes is never stored: what is held besides the result is a
// byte for each place, bucket and query (64 queries at a time), and lists of k. Throws
// InvalidArgument for k below 1 or above the classes, and for tensors that do not fit.
TopK mach_top_k(const MachMap& map, const std::vector<Tensor>& meta, int64_t k,
                MachAggregation aggregation = MachAggregation::mean);

// Scores of given classes: ids int32 [queries, n] on the CPU, -1 where a query has fewer than n.
// float32 [queries, n] on the CPU, minus infinity for -1. Throws InvalidArgument for other ids that
// are no class.
Tensor mach_scores(const MachMap& map, const std::vector<Tensor>& meta, const Tensor& ids,
                   MachAggregation aggregation = MachAggregation::mean);

// What the searches share. Room for the result; throws, beginning with "[name]", for a k that does
// not fit.
TopK empty_top_k(const std::string& name, const MachScorer& scorer, int64_t k);
// Classes that a search over all scores without a filter, where there are as many: it takes memory
// for one only beyond.
int64_t mach_first_round(int64_t k);
// Of these queries alone: writes their rows of `result`.
void search_all_classes(const MachScorer& scorer, std::span<const int32_t> queries,
                        const TopK& result);

}  // namespace sketchgrad
