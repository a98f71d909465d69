#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lanes.h"
#include "sketchgrad/kernels/prefetch.h"
#include "sketchgrad/kernels/softmax_rules.h"

// The row reduction of softmax.h on the CPU.
namespace sketchgrad::kernels::impl {

// Columns that are read twice, for the maximum and for the sum: they stay in the first-level cache.
inline constexpr int64_t kSoftmaxBlock = 2048;

// Several maxima side by side: with one, every comparison would wait for the one before it.
inline float add_bias_and_find_max(float* logits, const float* bias, int64_t count) {
  constexpr int64_t kChains = 4;
  Lanes max[kChains];
  for (Lanes& one : max) one = Lanes{} - INFINITY;
  int64_t c = 0;
  for (; c + kChains * kLanes <= count; c += kChains * kLanes) {
    for (int64_t i = 0; i < kChains; ++i) {
      float* const at = logits + c + i * kLanes;
      Lanes x = load_lanes(at, kLanes);
      if (bias != nullptr) {
        x += load_lanes(bias + (at - logits), kLanes);
        store_lanes(x, at, kLanes);
      }
      max[i] = x > max[i] ? x : max[i];
    }
  }
  float result = -INFINITY;
  for (; c < count; ++c) {
    if (bias != nullptr) logits[c] += bias[c];
    result = logits[c] > result ? logits[c] : result;
  }
  for (const Lanes& one : max) {
    for (int64_t i = 0; i < kLanes; ++i) result = one[i] > result ? one[i] : result;
  }
  return result;
}

// Sum of exp(l - shift). Meanwhile the block behind is asked for, of which `ahead` logits are
// there: finding its maximum is bound by memory, this sum by arithmetic.
inline float sum_of_shifted_exp(const float* logits, int64_t count, float shift, int64_t ahead) {
  float sums[kPrefetchColumns] = {};
  int64_t c = 0;
  for (; c + kPrefetchColumns <= count; c += kPrefetchColumns) {
    if (c < ahead) prefetch_floats(logits + count + c, std::min(ahead - c, kPrefetchColumns));
#pragma omp simd
    for (int64_t i = 0; i < kPrefetchColumns; ++i) sums[i] += fast_exp(logits[c + i] - shift);
  }
  float sum = 0.0f;
  for (; c < count; ++c) sum += fast_exp(logits[c] - shift);
  for (const float one : sums) sum += one;
  return sum;
}

// Adds `bias` to the logits where it is not null, and takes them into `state`.
inline LogSumExp log_sum_exp(float* logits, const float* bias, int64_t count, LogSumExp state) {
  for (int64_t begin = 0; begin < count; begin += kSoftmaxBlock) {
    const int64_t size = std::min(kSoftmaxBlock, count - begin);
    float* const block = logits + begin;
    const float max = add_bias_and_find_max(block, bias == nullptr ? nullptr : bias + begin, size);
    state = merge(state,
                  {max, sum_of_shifted_exp(block, size, softmax_shift(max), count - begin - size)});
  }
  return state;
}

template <class Policy>
void online_softmax_update(const Policy& policy, Matrix logits, const float* bias,
                           int64_t vocab_begin, const int32_t* targets, OnlineSoftmax state) {
  if (logits.cols == 0) return;
  for_each_range(
      policy, logits.rows, kBlockElements / logits.cols, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const LogSumExp seen =
              log_sum_exp(logits.row(t), bias, logits.cols, {state.max[t], state.sum[t]});
          state.max[t] = seen.max;
          state.sum[t] = seen.sum;
          const int64_t c = targets[t] - vocab_begin;
          if (targets[t] != kIgnoredTarget && c >= 0 && c < logits.cols) {
            state.target_logit[t] = logits(t, c);
          }
        }
      });
}

}  // namespace sketchgrad::kernels::impl
