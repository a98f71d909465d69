#pragma once

#include <cstdint>
#include <span>

#include "sketchgrad/apps/xc/examples.h"

namespace sketchgrad::apps::xc {

// One row on its way into a batch.
struct RowView {
  std::span<const int32_t> labels;
  std::span<const int32_t> features;    // ascending; without values repeated as often as they stand
  const int32_t* value_bits = nullptr;  // of a float for each feature, which are then different
};

// Makes a batch of rows that are shown twice: first counted, then copied.
class BatchBuilder {
 public:
  explicit BatchBuilder(const FeatureWeights& weights) : weights_(weights) {}
  void count(const RowView& row);
  // After all were counted.
  void begin_copies();
  void copy(const RowView& row);
  Batch finish();

 private:
  FeatureWeights weights_;
  int64_t rows_ = 0;
  int64_t features_ = 0;
  int64_t labels_ = 0;
  Batch batch_;
  int64_t row_ = 0;
  int32_t feature_ = 0;
  int32_t label_ = 0;
};

}  // namespace sketchgrad::apps::xc
