#pragma once

#include <cstdint>
#include <span>

namespace sketchgrad::apps::xc {

// What features weigh in a row: its counts or values, times idf where weights are tf-idf, the whole
// then scaled to unit length where rows are normalized.
//
// idf(f) = ln((1 + N) / n_f) / ln(1 + N) for a feature that n_f of the N rows of the training set
// have: 1 for one of a single row, little for those of most rows, and 0 for one that no row has,
// whose table row nothing was learned for. (Salton and Buckley 1988, "Term-weighting approaches in
// automatic text retrieval", scaled to at most 1 so that a learning rate fits sets of any size.)
class FeatureWeights {
 public:
  explicit FeatureWeights(bool normalize) : normalize_(normalize) {}
  // tf-idf. counts: n_f for all features; they are to outlive the object.
  FeatureWeights(bool normalize, std::span<const int32_t> counts, int64_t training_rows);

  // In place; values of different features.
  void apply(std::span<const int32_t> features, float* values) const;
  double idf(int32_t feature) const;

 private:
  bool normalize_;
  std::span<const int32_t> counts_;  // empty: tf
  double log_rows_ = 0;              // ln(1 + N)
};

}  // namespace sketchgrad::apps::xc
