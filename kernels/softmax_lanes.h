#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lane_group.h"
#include "sketchgrad/kernels/softmax_rules.h"

// The row reduction of softmax.h on the GPU: a lane group takes a segment of a row's logits, then a
// thread takes in the segments of its row in their order. Segments give enough work for all
// processors where there are few tokens.
namespace sketchgrad::kernels {

inline constexpr int64_t kSegmentLogits = 2048;

// Unit: token x segment. Adds the bias to the logits.
struct SegmentLanes {
  Matrix logits;
  const float* bias;   // null for none
  LogSumExp* partial;  // [tokens, segments]

  SG_HD int64_t segments() const { return (logits.cols + kSegmentLogits - 1) / kSegmentLogits; }

  template <class Group>
  SG_HD void operator()(const Group& group, int64_t unit) const {
    const int64_t begin = unit % segments() * kSegmentLogits;
    const int64_t end = begin + kSegmentLogits < logits.cols ? begin + kSegmentLogits : logits.cols;
    float* const row = logits.row(unit / segments());
    LogSumExp total;
    for (int64_t c = begin + group.lane(); c < end; c += group.lanes()) {
      float x = row[c];
      if (bias != nullptr) {
        x += bias[c];
        row[c] = x;
      }
      total = add_logit(total, x);
    }
    total = combine_over_lanes(group, total, [](LogSumExp a, LogSumExp b) { return merge(a, b); });
    if (group.lane() == 0) partial[unit] = total;
  }
};

struct TakeInSegments {
  Matrix logits;
  int64_t vocab_begin;
  const int32_t* targets;
  const LogSumExp* partial;
  int64_t segments;
  OnlineSoftmax state;
  SG_HD void operator()(int64_t t) const {
    LogSumExp seen{state.max[t], state.sum[t]};
    for (int64_t s = 0; s < segments; ++s) seen = merge(seen, partial[t * segments + s]);
    state.max[t] = seen.max;
    state.sum[t] = seen.sum;
    const int64_t c = targets[t] - vocab_begin;
    if (targets[t] != kIgnoredTarget && c >= 0 && c < logits.cols) {
      state.target_logit[t] = logits(t, c);
    }
  }
};

template <class Policy>
void online_softmax_update_by_lanes(const Policy& policy, const Exec& exec, Matrix logits,
                                    const float* bias, int64_t vocab_begin, const int32_t* targets,
                                    OnlineSoftmax state) {
  if (logits.rows == 0 || logits.cols == 0) return;
  SegmentLanes body{logits, bias, nullptr};
  const int64_t segments = body.segments();
  const ScratchArray<LogSumExp> partial(exec, logits.rows * segments, "softmax.segments");
  body.partial = partial.data();
  for_each_unit(policy, logits.rows * segments, kWarpLanes, body);
  for_each(policy, logits.rows,
           TakeInSegments{logits, vocab_begin, targets, partial.data(), segments, state});
}

}  // namespace sketchgrad::kernels
