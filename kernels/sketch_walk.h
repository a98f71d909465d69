#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/lanes.h"
#include "sketchgrad/kernels/prefetch.h"
#include "sketchgrad/kernels/sketch.h"

// The sketched step on the CPU: one walk over the rows in their order, for a piece of the columns.
// A row's estimate must not see what earlier rows of the step changed, so a bucket that several
// rows share collects their changes in a sum, and takes them in with its last row, when nobody
// reads it any more. Sums therefore run in order of row, and nothing of size K x D is stored.
namespace sketchgrad::kernels {

// Where a row stands among the active rows of its bucket.
enum class Turn : uint8_t { only, first, middle, last };

// Turns and sums of one sketch and step.
class SketchTurns {
 public:
  struct Entry {
    int32_t sum = 0;  // index of the bucket's sum among those of its depth
    Turn turn = Turn::only;
  };

  SketchTurns(const Exec& exec, const SketchPlan& plan)
      : entries_(exec, plan.depth * plan.rows, "sketch.turns"),
        members_(exec, count_sums(plan), "sketch.members"),
        rows_(plan.rows) {
    int64_t sums = 0;
    for (int32_t j = 0; j < plan.depth; ++j) {
      first_sum_[j] = sums;
      Entry* entries = entries_.data() + j * plan.rows;
      const Groups& groups = plan.groups[static_cast<size_t>(j)];
      for (int64_t g = 0; g < groups.count; ++g) {
        const int32_t* begin = groups.order + groups.begin[g];
        const int32_t count = groups.begin[g + 1] - groups.begin[g];
        if (count == 1) {
          entries[*begin] = {0, Turn::only};
          continue;
        }
        const int32_t sum = static_cast<int32_t>(sums - first_sum_[j]);
        entries[begin[0]] = {sum, Turn::first};
        for (int32_t i = 1; i < count - 1; ++i) entries[begin[i]] = {sum, Turn::middle};
        entries[begin[count - 1]] = {sum, Turn::last};
        members_[sums++] = count;
      }
    }
    sums_ = sums;
  }

  int64_t sums() const { return sums_; }
  Entry entry(int32_t depth_index, int64_t r) const { return entries_[depth_index * rows_ + r]; }
  int64_t sum_index(int32_t depth_index, Entry entry) const {
    return first_sum_[depth_index] + entry.sum;
  }
  int32_t members(int64_t sum_index) const { return members_[sum_index]; }

 private:
  static int64_t count_sums(const SketchPlan& plan) {
    int64_t sums = 0;
    for (int32_t j = 0; j < plan.depth; ++j) {
      const Groups& groups = plan.groups[static_cast<size_t>(j)];
      for (int64_t g = 0; g < groups.count; ++g) {
        sums += groups.begin[g + 1] - groups.begin[g] > 1 ? 1 : 0;
      }
    }
    return sums;
  }

  ScratchArray<Entry> entries_;    // [depth, rows]
  ScratchArray<int32_t> members_;  // [sums]: rows that share the bucket
  int64_t first_sum_[kMaxSketchDepth] = {};
  int64_t rows_;
  int64_t sums_ = 0;
};

// One estimate of the depths' readings.
template <int kDepth, Combine kCombine>
Lanes combine_readings(const Lanes (&v)[kDepth]) {
  if constexpr (kDepth == 1) {
    return v[0];
  } else if constexpr (kCombine == Combine::minimum) {
    Lanes result = v[0];
    for (int j = 1; j < kDepth; ++j) result = v[j] < result ? v[j] : result;
    return result;
  } else if constexpr (kCombine == Combine::mean) {
    Lanes result = v[0];
    for (int j = 1; j < kDepth; ++j) result += v[j];
    return result * (1.0f / kDepth);
  } else {
    return combine_median(v);
  }
}

// f.operator()<depth>() for a depth from kDepth to kMaxSketchDepth that is known only now.
template <int kDepth, class F>
void with_depth(int32_t depth, const F& f) {
  if (depth == kDepth) {
    f.template operator()<kDepth>();
  } else if constexpr (kDepth < kMaxSketchDepth) {
    with_depth<kDepth + 1>(depth, f);
  }
}

// One sketch and a range of whole pieces of its columns: the views are cut to it.
struct SketchWalk {
  SketchState state;
  const SketchTurns* turns;
  float* sums;  // [turns->sums(), columns]
  const int32_t* ids;
  ConstMatrix gradient;
  int64_t piece_columns;
  bool write = true;

  // Rows [begin, end) change their buckets; their new values go to values(0, :), values(1, :), ...
  void advance(int64_t begin, int64_t end, Matrix values) const {
    const auto run = [&]<int kDepth, Combine kCombine, RowWeights kWeights>() {
      for (int64_t r = begin; r < end; ++r) {
        row<kDepth, kCombine, kWeights>(r, values.row(r - begin));
      }
    };
    with_depth<1>(state.sketch.depth, [&]<int kDepth>() {
      with_choices([&]<Combine kCombine, RowWeights kWeights>() {
        run.template operator()<kDepth, kCombine, kWeights>();
      });
    });
  }

  // The walk that only estimates.
  SketchWalk reread() const {
    SketchWalk walk = *this;
    walk.write = false;
    walk.state.step.accumulate.decay = 1.0f;
    walk.state.step.accumulate.scale = 0.0f;
    return walk;
  }

 private:
  // The pairs of combine and row weights that there are: check_sketch in update.cpp.
  template <class F>
  void with_choices(const F& f) const {
    const SketchStep& step = state.step;
    if (step.rows == RowWeights::by_depths) {
      f.template operator()<Combine::median, RowWeights::by_depths>();
    } else if (step.rows == RowWeights::by_power) {
      f.template operator()<Combine::median, RowWeights::by_power>();
    } else if (step.rows == RowWeights::by_scale) {
      f.template operator()<Combine::mean, RowWeights::by_scale>();
    } else if (step.combine == Combine::median) {
      f.template operator()<Combine::median, RowWeights::constant>();
    } else if (step.combine == Combine::minimum) {
      f.template operator()<Combine::minimum, RowWeights::constant>();
    } else {
      f.template operator()<Combine::mean, RowWeights::constant>();
    }
  }

  Slot slot(int32_t j, int64_t r) const { return state.plan->slots[j * state.plan->rows + r]; }

  // Asks for a piece of a later row. Piece by piece: a row's lines at once would fill the queue of
  // outstanding reads and then leave it idle.
  template <int kDepth>
  void prefetch(int64_t r, int64_t column, int64_t columns) const {
    for (int32_t j = 0; j < kDepth; ++j) {
      prefetch_floats(state.sketch.bucket(j, slot_bucket(slot(j, r))) + column, columns);
      const SketchTurns::Entry entry = turns->entry(j, r);
      if (entry.turn == Turn::only) continue;
      prefetch_floats(sums + turns->sum_index(j, entry) * state.sketch.dim + column, columns);
    }
    if (column == 0 && state.row_state.data != nullptr) {
      prefetch_floats(state.row_state.row(ids != nullptr ? ids[r] : r), 1);
    }
  }

  // How a bucket takes in one row's change.
  struct Bucket {
    float* cells;
    float* sum;
    Turn turn;
    float sign;
    float keep;
    float weight;
    float floor;

    template <bool kFull>
    void take_in(const Lanes* change, int64_t columns) const {
      for (int64_t c = 0; c < columns; c += kLanes) {
        const int64_t count = columns - c;
        Lanes total = sign * change[c / kLanes];
        if (turn == Turn::middle || turn == Turn::last) total += load_lanes<kFull>(sum + c, count);
        if (turn == Turn::first || turn == Turn::middle) {
          store_lanes<kFull>(total, sum + c, count);
          continue;
        }
        const Lanes cell = keep * load_lanes<kFull>(cells + c, count) + weight * total;
        store_lanes<kFull>(cell < floor ? Lanes{} + floor : cell, cells + c, count);  // NaN stays
      }
    }
  };

  template <int kDepth, Combine kCombine, RowWeights kWeights>
  void row(int64_t r, float* value) const {
    const SketchStep& step = state.step;
    Bucket buckets[kDepth];
    for (int32_t j = 0; j < kDepth; ++j) {
      const Slot place = slot(j, r);
      const SketchTurns::Entry entry = turns->entry(j, r);
      const bool shared = entry.turn != Turn::only;
      const int64_t sum = turns->sum_index(j, entry);
      const float members =
          entry.turn == Turn::last ? static_cast<float>(turns->members(sum)) : 1.0f;
      buckets[j] = {state.sketch.bucket(j, slot_bucket(place)),
                    shared ? sums + sum * state.sketch.dim : nullptr,
                    entry.turn,
                    step.with_signs ? slot_sign(place) : 1.0f,
                    step.cell_keep + members * step.cell_decay,
                    step.mean ? 1.0f / members : 1.0f,
                    step.clamp_at_zero ? 0.0f : -INFINITY};
    }
    const float* g = gradient.row(r);
    float* row_state = nullptr;
    if constexpr (kWeights == RowWeights::by_power || kWeights == RowWeights::by_scale) {
      row_state = state.row_state.row(ids != nullptr ? ids[r] : r);
    }
    for (int64_t c = 0; c < state.sketch.dim; c += piece_columns) {
      const int64_t columns = std::min(piece_columns, state.sketch.dim - c);
      if (r + kPrefetchRows < state.plan->rows) prefetch<kDepth>(r + kPrefetchRows, c, columns);
      if (columns == kPieceColumns) {  // a number of turns that the compiler knows
        piece<kDepth, kCombine, kWeights, true>(kPieceColumns, g + c, row_state, buckets,
                                                value + c);
      } else if (columns % kLanes == 0) {
        piece<kDepth, kCombine, kWeights, true>(columns, g + c, row_state, buckets, value + c);
      } else {
        piece<kDepth, kCombine, kWeights, false>(columns, g + c, row_state, buckets, value + c);
      }
      for (Bucket& bucket : buckets) {
        bucket.cells += columns;
        if (bucket.turn != Turn::only) bucket.sum += columns;
      }
      if (row_state != nullptr) ++row_state;
    }
  }

  template <int kDepth, Combine kCombine, RowWeights kWeights, bool kFull>
  void piece(int64_t columns, const float* g, float* row_state, const Bucket (&buckets)[kDepth],
             float* value) const {
    const SketchStep& step = state.step;
    const Accumulate rule = step.accumulate;
    const float cell_scale = step.cell_scale;
    Lanes estimate[kWidestPiece / kLanes];
    Lanes noise{};
    Lanes power{};
    Lanes cross{};
    Lanes input{};
    Lanes sum{};
    for (int64_t c = 0; c < columns; c += kLanes) {
      Lanes v[kDepth];
      for (int j = 0; j < kDepth; ++j) {
        v[j] = cell_scale * buckets[j].sign * load_lanes<kFull>(buckets[j].cells + c, columns - c);
      }
      const Lanes combined = combine_readings<kDepth, kCombine>(v);
      estimate[c / kLanes] = combined;
      if constexpr (kWeights == RowWeights::by_depths) {
        Lanes mean = v[0];
        for (int j = 1; j < kDepth; ++j) mean += v[j];
        mean *= 1.0f / kDepth;
        for (int j = 0; j < kDepth; ++j) noise += (v[j] - mean) * (v[j] - mean);
      }
      if constexpr (kWeights == RowWeights::by_power || kWeights == RowWeights::by_scale) {
        const Lanes gradients = load_lanes<kFull>(g + c, columns - c);
        input += gradients * gradients;
        cross += combined * gradients;
      }
      power += combined * combined;
      sum += combined;
    }
    float decay = rule.decay;
    float scale = rule.scale;
    float flat = 0.0f;
    const float estimate_weight = step.estimate_weight;
    float input_weight = step.input_weight;
    if constexpr (kWeights == RowWeights::by_depths) {
      decay *= depth_trust(sum_lanes(noise) / (kDepth * (kDepth - 1)), sum_lanes(power));
      scale = step.mass - decay * step.previous_mass;
    } else if constexpr (kWeights == RowWeights::by_power) {
      const float trust = wiener_trust(*row_state, sum_lanes(power));
      *row_state = wiener_power(*row_state, rule, trust, sum_lanes(cross), sum_lanes(input));
      decay *= trust;
      scale = step.mass - decay * step.previous_mass;
    } else if constexpr (kWeights == RowWeights::by_scale) {
      const float share = 1.0f / static_cast<float>(columns);
      const ShapeWeights weights =
          shape_weights(*row_state, rule, sum_lanes(input) * share, sum_lanes(sum) * share);
      decay = weights.decay;
      flat = weights.flat;
      input_weight = weights.input_weight;
    }
    Lanes change[kWidestPiece / kLanes];
    for (int64_t c = 0; c < columns; c += kLanes) {
      const Lanes gradients = load_lanes<kFull>(g + c, columns - c);
      const Lanes u = rule.squared ? gradients * gradients : gradients;
      const Lanes old = estimate[c / kLanes];
      change[c / kLanes] = estimate_weight * old + input_weight * u;
      store_lanes<kFull>(decay * old + scale * u + flat, value + c, columns - c);
    }
    if (!write) return;
    for (const Bucket& bucket : buckets) bucket.template take_in<kFull>(change, columns);
  }
};

}  // namespace sketchgrad::kernels
