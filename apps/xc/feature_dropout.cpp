#include "sketchgrad/apps/xc/feature_dropout.h"

#include <cmath>

namespace sketchgrad::apps::xc {

namespace {

double squared_length(const float* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double{values[i]} * double{values[i]};
  return sum;
}

}  // namespace

void drop_features(SparseRows& rows, double probability, kernels::PhiloxKey key) {
  check(probability >= 0 && probability < 1, "[xc] features dropped with probability {}",
        probability);
  if (probability == 0) return;
  const auto limit = static_cast<uint32_t>(probability * 0x1p32);
  int32_t* const begin = rows.begin.data<int32_t>();
  int32_t* const column = rows.columns.data<int32_t>();
  float* const value = rows.values.data<float>();
  int32_t end = 0;  // of what is kept
  for (int64_t r = 0; r < rows.rows(); ++r) {
    const int32_t first = begin[r], last = begin[r + 1], kept = end;
    const double before = squared_length(value + first, last - first);
    const auto keep = [&](int32_t e) {
      column[end] = column[e];
      value[end++] = value[e];
    };
    // Bits come before anything is moved, and kept entries never overtake what is read.
    bool any = false;
    for (int32_t e = first; e < last && !any; ++e) {
      any = kernels::philox_bits(key, static_cast<uint64_t>(e)) >= limit;
    }
    for (int32_t e = first; e < last; ++e) {
      if (!any || kernels::philox_bits(key, static_cast<uint64_t>(e)) >= limit) keep(e);
    }
    const double after = squared_length(value + kept, end - kept);
    const auto factor = static_cast<float>(after > 0 ? std::sqrt(before / after) : 1.0);
    for (int32_t e = kept; any && e < end; ++e) value[e] *= factor;
    begin[r] = kept;
  }
  begin[rows.rows()] = end;
  rows.columns = rows.columns.rows(0, end);
  rows.values = rows.values.rows(0, end);
}

}  // namespace sketchgrad::apps::xc
