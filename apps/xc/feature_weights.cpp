#include "sketchgrad/apps/xc/feature_weights.h"

#include <algorithm>
#include <cmath>

#include "sketchgrad/framework/check.h"

namespace sketchgrad::apps::xc {

FeatureWeights::FeatureWeights(bool normalize, std::span<const int32_t> counts,
                               int64_t training_rows)
    : normalize_(normalize),
      counts_(counts),
      log_rows_(std::log1p(static_cast<double>(training_rows))) {
  check(!counts.empty() && training_rows >= 1, "[xc] counts of {} features in {} rows",
        counts.size(), training_rows);
}

double FeatureWeights::idf(int32_t feature) const {
  if (counts_.empty()) return 1;
  const int32_t count = counts_[static_cast<size_t>(feature)];
  return count > 0 ? 1 - std::log(static_cast<double>(count)) / log_rows_ : 0.0;
}

void FeatureWeights::apply(std::span<const int32_t> features, float* values) const {
  double squares = 0;
  for (size_t i = 0; i < features.size(); ++i) {
    if (!counts_.empty()) {
      values[i] = static_cast<float>(double{values[i]} * idf(features[i]));
    }
    squares += double{values[i]} * double{values[i]};
  }
  if (!normalize_ || squares == 0) return;
  const double scale = 1 / std::sqrt(squares);
  for (size_t i = 0; i < features.size(); ++i) {
    values[i] = static_cast<float>(double{values[i]} * scale);
  }
}

}  // namespace sketchgrad::apps::xc
