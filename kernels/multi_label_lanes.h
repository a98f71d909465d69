#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lane_group.h"
#include "sketchgrad/kernels/multi_label_rules.h"

// The row reduction of multi_label.h on the GPU: a lane group takes a segment of a row's logits,
// then a thread adds the segments of its row in their order.
namespace sketchgrad::kernels {

inline constexpr int64_t kSigmoidSegment = 2048;

// Unit: token x segment.
struct SigmoidSegmentLanes {
  Matrix logits;
  const float* bias;  // null for none
  float scale;
  int64_t segments;
  float* partial;  // [tokens, segments]

  template <class Group>
  SG_HD void operator()(const Group& group, int64_t unit) const {
    float* const row = logits.row(unit / segments);
    const float total = bias == nullptr ? sum(group, unit, SigmoidLogit<false>{row, bias, scale})
                                        : sum(group, unit, SigmoidLogit<true>{row, bias, scale});
    if (group.lane() == 0) partial[unit] = total;
  }

 private:
  template <class Group, class Logit>
  SG_HD float sum(const Group& group, int64_t unit, const Logit& logit) const {
    const int64_t begin = unit % segments * kSigmoidSegment;
    const int64_t end =
        begin + kSigmoidSegment < logits.cols ? begin + kSigmoidSegment : logits.cols;
    float total = 0.0f;
    for (int64_t c = begin + group.lane(); c < end; c += group.lanes()) total += logit(c);
    return sum_over_lanes(group, total);
  }
};

struct AddSegments {
  const float* partial;
  int64_t segments;
  float* sums;
  SG_HD void operator()(int64_t t) const {
    float sum = 0.0f;
    for (int64_t s = 0; s < segments; ++s) sum += partial[t * segments + s];
    sums[t] = sum;
  }
};

template <class Policy>
void sigmoid_cross_entropy_by_lanes(const Policy& policy, const Exec& exec, Matrix logits,
                                    const float* bias, float scale, float* sums) {
  const int64_t segments = (logits.cols + kSigmoidSegment - 1) / kSigmoidSegment;
  const ScratchArray<float> partial(exec, logits.rows * segments, "sigmoid.segments");
  for_each_unit(policy, logits.rows * segments, kWarpLanes,
                SigmoidSegmentLanes{logits, bias, scale, segments, partial.data()});
  for_each(policy, logits.rows, AddSegments{partial.data(), segments, sums});
}

}  // namespace sketchgrad::kernels
