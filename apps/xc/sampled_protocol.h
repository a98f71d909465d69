#pragma once

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <span>

#include "sketchgrad/framework/tensor.h"

namespace sketchgrad::apps::xc {

struct SampledProtocolOptions {
  int64_t classes = 0;
  int64_t samples = 0;  // of a row
  uint64_t seed = 0;
};

// How the count-sketch paper measures recall of MACH where not all classes are scored (Spring et
// al. 2019, section 6.4): the true classes of a row are ranked among themselves and a random sample
// of other classes. Far easier than recall among all classes, and not comparable with it; hence its
// names begin with "sampled_".
//
//   sampled_recall_at_k   true classes among the k best of these / labels, for k = 1, 10, 100
//
// Labels are as in metrics.h: -1 counts as a label that is not found. Equal scores rank in order of
// id, NaN behind everything.
class SampledProtocol {
 public:
  // Throws InvalidArgument for samples below 1 or as many as classes.
  explicit SampledProtocol(const SampledProtocolOptions&);

  // The classes to be scored for row number `row`: its known labels, in their order, then the
  // sample, all different, a function of (seed, row, labels). `out` must have room for
  // known labels + samples; returns how many were written. Throws InvalidArgument if classes other
  // than the labels are fewer than the samples, or a label is none.
  int64_t candidates(int64_t row, std::span<const int32_t> labels, std::span<int32_t> out) const;
  // The same for rows [first_row, first_row + n): int32 [n, longest], -1 behind shorter ones, for
  // mach_scores. labels.size() = n.
  Tensor candidates(int64_t first_row, std::span<const std::span<const int32_t>> labels) const;

  // `ids` and `scores` as of candidates(); -1 in ids is none.
  void add(std::span<const int32_t> ids, std::span<const float> scores,
           std::span<const int32_t> labels);
  // "samples", "rows", "rows_without_labels", "sampled_recall_at_1" / 10 / 100 (null without rows).
  nlohmann::json json() const;

 private:
  static constexpr std::array<int64_t, 3> kDepths = {1, 10, 100};

  SampledProtocolOptions options_;
  int64_t rows_ = 0;
  int64_t rows_without_labels_ = 0;
  std::array<double, 3> recall_{};
};

}  // namespace sketchgrad::apps::xc
