#pragma once

#include <algorithm>
#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/prefetch.h"
#include "sketchgrad/kernels/sketch.h"

namespace sketchgrad::kernels {

// Fills slots of one depth; the group keys are the buckets without the sign.
struct SlotElement {
  uint64_t seed;
  int32_t depth_index;
  int64_t width;
  const int32_t* ids;
  Slot* slots;
  int32_t* buckets;
  SG_HD void operator()(int64_t r) const {
    const Slot slot = sketch_slot(seed, depth_index, ids != nullptr ? ids[r] : r, width);
    slots[r] = slot;
    buckets[r] = static_cast<int32_t>(slot_bucket(slot));
  }
};

template <int kDepth, Combine kCombine>
struct EstimateElement {
  const float* bucket[kDepth];
  float sign[kDepth];  // scale included
  float* estimate;
  SG_HD void operator()(int64_t c) const {
    float v[kDepth];
    for (int j = 0; j < kDepth; ++j) v[j] = sign[j] * bucket[j][c];
    if constexpr (kDepth == 1) {
      estimate[c] = v[0];
    } else if constexpr (kCombine == Combine::minimum) {
      float result = v[0];
      for (int j = 1; j < kDepth; ++j) result = v[j] < result ? v[j] : result;
      estimate[c] = result;
    } else if constexpr (kCombine == Combine::mean) {
      float result = v[0];
      for (int j = 1; j < kDepth; ++j) result += v[j];
      estimate[c] = result * (1.0f / kDepth);
    } else if constexpr (kDepth == 3) {
      estimate[c] = combine_median3(v[0], v[1], v[2]);
    } else {
      estimate[c] = combine_median(v, kDepth);
    }
  }
};

template <int kDepth, Combine kCombine>
struct EstimateRow {
  SketchView sketch;
  const Slot* slots;
  int64_t rows;
  bool with_signs;
  float scale;
  Matrix estimate;
  SG_HD EstimateElement<kDepth, kCombine> operator()(int64_t r) const {
    EstimateElement<kDepth, kCombine> element;
    for (int j = 0; j < kDepth; ++j) {
      const Slot slot = slots[j * rows + r];
      element.bucket[j] = sketch.bucket(j, slot_bucket(slot));
      element.sign[j] = with_signs ? scale * slot_sign(slot) : scale;
    }
    element.estimate = estimate.row(r);
    return element;
  }
  void prefetch(int64_t r) const {
    for (int j = 0; j < kDepth; ++j) {
      prefetch_floats(sketch.bucket(j, slot_bucket(slots[j * rows + r])), sketch.dim);
    }
  }
};

// f.operator()<depth>() for a depth from kDepth to kMaxSketchDepth that is known only now.
template <int kDepth, class F>
void with_depth(int32_t depth, const F& f) {
  if (depth == kDepth) {
    f.template operator()<kDepth>();
  } else if constexpr (kDepth < kMaxSketchDepth) {
    with_depth<kDepth + 1>(depth, f);
  }
}

template <class Policy>
void sketch_estimate_impl(const Policy& policy, SketchView sketch, const SketchPlan& plan,
                          Combine combine, bool with_signs, float scale, Matrix estimate) {
  const auto run = [&]<int kDepth, Combine kCombine>() {
    for_each_row(
        policy, plan.rows, sketch.dim,
        EstimateRow<kDepth, kCombine>{sketch, plan.slots, plan.rows, with_signs, scale, estimate});
  };
  with_depth<1>(plan.depth, [&]<int kDepth>() {
    if (combine == Combine::minimum) {
      run.template operator()<kDepth, Combine::minimum>();
    } else if (combine == Combine::mean) {
      run.template operator()<kDepth, Combine::mean>();
    } else {
      run.template operator()<kDepth, Combine::median>();
    }
  });
}

// One row of sketch_estimate_trusted.
template <int kDepth>
struct TrustedEstimateRow {
  EstimateRow<kDepth, Combine::median> readings;
  TrustRule rule;
  float* decay;
  float* scale;
  SG_HD void operator()(int64_t r) const {
    const EstimateElement<kDepth, Combine::median> element = readings(r);
    const int64_t columns = readings.sketch.dim;
    float noise = 0.0f;
    float power = 0.0f;
#pragma omp simd reduction(+ : noise, power)
    for (int64_t c = 0; c < columns; ++c) {
      element(c);
      float mean = 0.0f;
      for (int j = 0; j < kDepth; ++j) mean += element.sign[j] * element.bucket[j][c];
      mean *= 1.0f / kDepth;
      for (int j = 0; j < kDepth; ++j) {
        const float difference = element.sign[j] * element.bucket[j][c] - mean;
        noise += difference * difference;
      }
      power += element.estimate[c] * element.estimate[c];
    }
    const float trust = james_stein_trust(noise / (kDepth * (kDepth - 1)), power);
    decay[r] = trust * rule.gamma;
    scale[r] = rule.mass - decay[r] * rule.previous_mass;
  }
};

template <class Policy>
void sketch_estimate_trusted_impl(const Policy& policy, SketchView sketch, const SketchPlan& plan,
                                  const TrustRule& rule, Matrix estimate, float* decay,
                                  float* scale) {
  with_depth<2>(plan.depth, [&]<int kDepth>() {
    const TrustedEstimateRow<kDepth> row{
        {sketch, plan.slots, plan.rows, true, 1.0f, estimate}, rule, decay, scale};
    for_each_range(policy, plan.rows, kBlockElements / sketch.dim, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        if (r + kPrefetchRows < end) row.readings.prefetch(r + kPrefetchRows);
        row(r);
      }
    });
  });
}

struct RowScaleElement {
  const int32_t* ids;
  const float* mean_inputs;
  Accumulate accumulate;
  float* rho;
  float* decay;
  float* estimate_weight;
  float* input_weight;
  SG_HD void operator()(int64_t r) const {
    const int64_t id = ids != nullptr ? ids[r] : r;
    const float kept = accumulate.decay * rho[id];
    const float updated = kept + accumulate.scale * mean_inputs[r];
    // Below this, 1 / rho would leave the finite numbers.
    const bool usable = updated > 1e-35f;
    rho[id] = updated;
    decay[r] = kept;
    estimate_weight[r] = usable ? kept / updated - 1.0f : 0.0f;
    input_weight[r] = usable ? accumulate.scale / updated : 0.0f;
  }
};

// Columns of a bucket that are summed at a time, in registers.
inline constexpr int kBucketColumns = 64;

// The rows of one bucket, combined into its cells.
struct BucketWriter {
  SketchView sketch;
  const Slot* slots;  // of this depth
  int32_t depth_index;
  bool with_signs;
  Groups groups;
  SketchWrite write;
  ConstMatrix estimate;
  ConstMatrix gradient;

  SG_HD void operator()(int64_t group) const {
    int64_t begin = 0;
    for (; begin + kBucketColumns <= sketch.dim; begin += kBucketColumns) {
      piece<true>(group, begin, kBucketColumns);
    }
    if (begin < sketch.dim) piece<false>(group, begin, sketch.dim - begin);
  }

  // Columns [begin, begin + columns); a full piece has a length that the compiler knows.
  template <bool kFull>
  SG_HD void piece(int64_t group, int64_t begin, int64_t columns) const {
    const int64_t count = kFull ? kBucketColumns : columns;
    const int32_t first = groups.begin[group];
    const int32_t last = groups.begin[group + 1];
    const bool squared = write.accumulate.squared;
    float sum[kBucketColumns] = {};
    for (int32_t item = first; item < last; ++item) {
      const int64_t r = groups.order[item];
      const float sign = with_signs ? slot_sign(slots[r]) : 1.0f;
      const float estimate_weight = sign * write.estimate_weight.at(r);
      const float input_weight = sign * write.input_weight.at(r);
      const float* e = estimate.row(r) + begin;
      const float* g = gradient.row(r) + begin;
#pragma omp simd
      for (int64_t c = 0; c < count; ++c) {
        const float input = squared ? g[c] * g[c] : g[c];
        sum[c] += estimate_weight * e[c] + input_weight * input;
      }
    }
    const float members = static_cast<float>(last - first);
    const float keep = 1.0f + members * write.cell_decay;
    const float weight = write.mean ? 1.0f / members : 1.0f;
    const float floor = write.clamp_at_zero ? 0.0f : -INFINITY;
    float* cell = sketch.bucket(depth_index, groups.keys[group]) + begin;
#pragma omp simd
    for (int64_t c = 0; c < count; ++c) {
      const float value = keep * cell[c] + weight * sum[c];
      cell[c] = value < floor ? floor : value;  // NaN stays
    }
  }

  // What the groups that come next will read: their rows and their cells lie anywhere.
  void prefetch(int64_t group) const {
    prefetch_floats(sketch.bucket(depth_index, groups.keys[group]), sketch.dim);
    for (int32_t item = groups.begin[group]; item < groups.begin[group + 1]; ++item) {
      prefetch_floats(gradient.row(groups.order[item]), sketch.dim);
      prefetch_floats(estimate.row(groups.order[item]), sketch.dim);
    }
  }
};

// Groups are read ahead by about so many rows.
inline constexpr int64_t kPrefetchMembers = 8;

template <class Policy>
void sketch_write_impl(const Policy& policy, SketchView sketch, const SketchPlan& plan,
                       bool with_signs, const SketchWrite& write, ConstMatrix estimate,
                       ConstMatrix gradient) {
  for (int32_t j = 0; j < plan.depth; ++j) {
    const Groups& groups = plan.groups[static_cast<size_t>(j)];
    if (groups.count == 0) continue;
    const BucketWriter writer{
        sketch, plan.slots + j * plan.rows, j, with_signs, groups, write, estimate, gradient};
    const int64_t members = std::max<int64_t>(1, plan.rows / groups.count);
    const int64_t ahead = std::max<int64_t>(1, kPrefetchMembers / members);
    for_each_range(policy, groups.count, kBlockElements / ((members + 1) * sketch.dim),
                   [&](int64_t begin, int64_t end) {
                     const BucketWriter local = writer;
                     for (int64_t group = begin; group < end; ++group) {
                       if (group + ahead < groups.count) local.prefetch(group + ahead);
                       local(group);
                     }
                   });
  }
}

namespace cpu {
void sketch_slots(const Exec&, const SlotElement& element, int64_t rows);
void sketch_estimate(const Exec&, SketchView, const SketchPlan&, Combine, bool with_signs,
                     float scale, Matrix estimate);
void sketch_estimate_trusted(const Exec&, SketchView, const SketchPlan&, const TrustRule&,
                             Matrix estimate, float* decay, float* scale);
void row_scale_coefficients(const Exec&, const RowScaleElement& element, int64_t count);
void sketch_write(const Exec&, SketchView, const SketchPlan&, bool with_signs, const SketchWrite&,
                  ConstMatrix estimate, ConstMatrix gradient);
}  // namespace cpu

}  // namespace sketchgrad::kernels
