#pragma once

#include <cmath>
#include <cstdint>

#include "sketchgrad/kernels/sketch_rules.h"

// The sketched step of one piece of a row's columns (sketch.h), in its parts: each column's
// readings become an estimate and add to sums over the piece; from these follow the row's weights;
// with them each column has its new value and what it sends to its buckets. T: a float, or floats
// side by side. Depth and choices are constants to the CPU's loops and variables to the GPU's.
namespace sketchgrad::kernels {

// One estimate of the depths' readings.
template <int kDepth, class T>
SG_HD T combine_readings(Combine combine, const T (&v)[kDepth]) {
  if constexpr (kDepth == 1) {
    return v[0];
  } else {
    if (combine == Combine::median) return combine_median(v);
    T result = v[0];
    if (combine == Combine::minimum) {
      for (int j = 1; j < kDepth; ++j) result = v[j] < result ? v[j] : result;
      return result;
    }
    for (int j = 1; j < kDepth; ++j) result += v[j];
    return result * (1.0f / kDepth);
  }
}

template <class T>
struct PieceSums {
  T noise{};  // of sum_j (e_j - mean of the depths)^2
  T power{};  // of estimates squared
  T cross{};  // of estimate times gradient
  T input{};  // of gradients squared
  T sum{};    // of estimates
};

template <int kDepth, class T>
SG_HD void add_column(RowWeights weights, const T (&v)[kDepth], T estimate, T gradient,
                      PieceSums<T>& sums) {
  if (weights == RowWeights::by_depths) {
    T mean = v[0];
    for (int j = 1; j < kDepth; ++j) mean += v[j];
    mean *= 1.0f / kDepth;
    for (int j = 0; j < kDepth; ++j) sums.noise += (v[j] - mean) * (v[j] - mean);
  }
  if (weights == RowWeights::by_power || weights == RowWeights::by_scale) {
    sums.input += gradient * gradient;
    sums.cross += estimate * gradient;
  }
  sums.power += estimate * estimate;
  sums.sum += estimate;
}

// Of a row in one piece: new value = decay e + scale u + flat, and the row's buckets take
// estimate_weight e + input_weight u.
struct PieceWeights {
  float decay;
  float scale;
  float flat;
  float estimate_weight;
  float input_weight;
};

// `rule`: step.accumulate, of the entry. `row_state` is the row's float of this piece, where the
// reading keeps one: advanced. `alone`: the row has a bucket of its own, and its estimate is exact.
template <int kDepth>
SG_HD PieceWeights weigh_piece(RowWeights weights, const SketchStep& step, const Accumulate& rule,
                               const PieceSums<float>& sums, int64_t columns, bool alone,
                               float& row_state) {
  // What the row's own part of a bucket decays besides the bucket: in steps that left the row out.
  const float skipped = rule.decay - step.accumulate.decay;
  const float share = 1.0f / static_cast<float>(columns);
  PieceWeights result{rule.decay, rule.scale, 0.0f, step.estimate_weight, step.input_weight};
  if (alone || step.estimate_weight != 0.0f) result.estimate_weight += skipped;
  if (alone) {
    if (weights == RowWeights::by_power) {
      row_state = wiener_power(sums.power, rule, 1.0f, sums.cross, sums.input);
    } else if (weights == RowWeights::by_scale) {
      row_state = rule.decay * sums.sum * share + rule.scale * sums.input * share;
    }
  } else if (weights == RowWeights::by_depths) {
    constexpr int kPairs = kDepth > 1 ? kDepth * (kDepth - 1) : 1;
    result.decay *= depth_trust(sums.noise / kPairs, sums.power);
    result.scale = rule.scale + (rule.decay - result.decay) * step.previous_mass;
  } else if (weights == RowWeights::by_power) {
    const float trust = wiener_trust(row_state, sums.power);
    row_state = wiener_power(row_state, rule, trust, sums.cross, sums.input);
    result.decay *= trust;
    result.estimate_weight += trust * skipped;
    result.scale = rule.scale + (rule.decay - result.decay) * step.previous_mass;
  } else if (weights == RowWeights::by_scale) {
    const ShapeWeights shape = shape_weights(row_state, rule, sums.input * share, sums.sum * share);
    result.decay = shape.decay;
    result.flat = shape.flat;
    result.input_weight = shape.input_weight;
  }
  return result;
}

template <class T>
SG_HD T piece_value(const PieceWeights& weights, T estimate, T input) {
  return weights.decay * estimate + weights.scale * input + weights.flat;
}
template <class T>
SG_HD T piece_change(const PieceWeights& weights, T estimate, T input) {
  return weights.estimate_weight * estimate + weights.input_weight * input;
}

// How a bucket takes in the sum of its rows' signed changes: keep * cell + weight * sum, not below
// floor.
struct BucketStep {
  float keep;
  float weight;
  float floor;

  // members: the active rows of the bucket.
  static SG_HD BucketStep of(const SketchStep& step, float members) {
    return {step.cell_keep + members * step.cell_decay, step.mean ? 1.0f / members : 1.0f,
            step.clamp_at_zero ? 0.0f : -INFINITY};
  }
  template <class T>
  SG_HD T operator()(T cell, T sum) const {
    const T value = keep * cell + weight * sum;
    return value < floor ? T{} + floor : value;  // NaN stays
  }
};

}  // namespace sketchgrad::kernels
