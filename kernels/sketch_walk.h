#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/lanes.h"
#include "sketchgrad/kernels/prefetch.h"
#include "sketchgrad/kernels/sketch.h"
#include "sketchgrad/kernels/sketch_piece_rules.h"

// The sketched step on the CPU: one walk over the active rows, for a range of the columns.
// A row's estimate must not see what other rows of the step changed, so a bucket that several rows
// share collects their changes in a sum, and takes them in with its last row, when nobody reads it
// any more. Sums run in order of row, and nothing of size K x D is stored.
namespace sketchgrad::kernels {

// Where a row stands among the active rows of its bucket.
enum class Turn : uint8_t { only, first, middle, last };

// In which order the rows of a step are walked.
enum class WalkOrder : uint8_t {
  rows,     // as they stand: every shared bucket has a sum of its own
  buckets,  // bucket by bucket of the only depth: one sum serves them all, and a bucket's cells are
            // read and written once, side by side
};

// Turns of one sketch and step.
class SketchTurns {
 public:
  class Entry {
   public:
    Entry(Turn turn, uint32_t sum, uint32_t members)
        : sum_(sum), turn_and_members_(static_cast<uint32_t>(turn) | members << 2) {}
    Turn turn() const { return static_cast<Turn>(turn_and_members_ & 3u); }
    int64_t sum() const { return sum_; }                         // index of the bucket's sum
    uint32_t members() const { return turn_and_members_ >> 2; }  // rows that share the bucket

   private:
    uint32_t sum_;
    uint32_t turn_and_members_;
  };

  SketchTurns(const Exec& exec, const SketchPlan& plan, WalkOrder order)
      : entries_(exec, plan.depth * plan.rows, "sketch.turns", ScratchKind::indices),
        rows_(plan.rows) {
    uint32_t shared = 0;
    for (int32_t j = 0; j < plan.depth; ++j) {
      Entry* entries = entries_.data() + j * plan.rows;
      const Groups& groups = plan.groups[static_cast<size_t>(j)];
      for (int64_t g = 0; g < groups.count; ++g) {
        const int32_t* begin = groups.order + groups.begin[g];
        const auto count = static_cast<uint32_t>(groups.begin[g + 1] - groups.begin[g]);
        if (count == 1) {
          entries[*begin] = {Turn::only, 0, 1};
          continue;
        }
        const uint32_t sum = order == WalkOrder::buckets ? 0 : shared;
        entries[begin[0]] = {Turn::first, sum, count};
        for (uint32_t i = 1; i < count - 1; ++i) entries[begin[i]] = {Turn::middle, sum, count};
        entries[begin[count - 1]] = {Turn::last, sum, count};
        ++shared;
      }
    }
    sums_ = order == WalkOrder::buckets ? std::min(shared, 1u) : shared;
  }

  int64_t sums() const { return sums_; }
  Entry entry(int32_t depth_index, int64_t r) const { return entries_[depth_index * rows_ + r]; }

 private:
  ScratchArray<Entry> entries_;  // [depth, rows]
  int64_t rows_;
  int64_t sums_ = 0;
};

// The columns of a piece in steps of kLanes, the last one perhaps of fewer. Where there are four
// steps the compiler knows it.
struct AnyPiece {
  int64_t columns;
  int64_t span() const { return columns; }
  int64_t lanes(int64_t c) const { return columns - c; }
};
struct FourSteps {
  int64_t columns;
  static constexpr int64_t kSpan = 4 * kLanes;
  static constexpr int64_t span() { return kSpan; }
  int64_t lanes(int64_t c) const { return c < kSpan - kLanes ? kLanes : columns - c; }
};
struct FourFullSteps {
  static constexpr int64_t columns = FourSteps::kSpan;
  static constexpr int64_t span() { return columns; }
  static constexpr int64_t lanes(int64_t) { return kLanes; }
};

// f(piece), one of the above
template <class F>
void with_steps(int64_t columns, const F& f) {
  if (columns == FourSteps::kSpan) {
    f(FourFullSteps());
  } else if (FourSteps::kSpan - kLanes < columns && columns < FourSteps::kSpan) {
    f(FourSteps{columns});
  } else {
    f(AnyPiece{columns});
  }
}

// One sketch and a range of whole pieces of its columns: the views are cut to it.
class SketchWalk {
 public:
  SketchWalk(const SketchState& state, const SketchTurns& turns, float* sums, const int32_t* ids,
             ConstMatrix gradient)
      : state_(state),
        turns_(&turns),
        sums_(sums),
        ids_(ids),
        gradient_(gradient),
        advance_(advance_of_depth<1>(state)) {}

  bool requery() const { return state_.step.requery; }

  // The walk that only estimates.
  SketchWalk reread() const {
    SketchWalk walk = *this;
    walk.write_ = false;
    walk.state_.step.accumulate = walk.state_.step.accumulate.nothing();
    return walk;
  }

  // Asks for a piece of a later row.
  void prefetch(int64_t r, int64_t column, int64_t columns) const {
    for (int32_t j = 0; j < state_.sketch.depth; ++j) {
      const int64_t bucket = slot_bucket(slot(j, r));
      if (state_.sketch.bf16 != nullptr) {
        prefetch_elements(state_.sketch.bf16_bucket(j, bucket) + column, columns);
      } else {
        prefetch_floats(state_.sketch.bucket(j, bucket) + column, columns);
      }
      const SketchTurns::Entry entry = turns_->entry(j, r);
      if (entry.turn() != Turn::only) prefetch_floats(sum(entry) + column, columns);
    }
    if (column == 0 && state_.row_state.data != nullptr) prefetch_floats(row_state(r), 1);
  }

 private:
  // How a bucket takes in one row's change.
  struct Bucket {
    float* cells;   // null where they are of few bits
    int64_t place;  // SketchView::place
    float* sum;
    Turn turn;
    float sign;
    BucketStep step;

    bool waits() const { return turn == Turn::first || turn == Turn::middle; }

    // `cell`: the piece's cells, or as much of them as floats.
    template <class Piece>
    void take_in(const Lanes* change, float* cell, int64_t column, Piece piece) const {
      const bool adds = turn == Turn::middle || turn == Turn::last;
      if (adds) {
        waits() ? take_in<true, true>(change, cell, column, piece)
                : take_in<true, false>(change, cell, column, piece);
      } else {
        waits() ? take_in<false, true>(change, cell, column, piece)
                : take_in<false, false>(change, cell, column, piece);
      }
    }

   private:
    template <bool kAdds, bool kWaits, class Piece>
    void take_in(const Lanes* change, float* cell, int64_t column, Piece piece) const {
      float* const total = sum + column;
      for (int64_t c = 0; c < piece.span(); c += kLanes) {
        const int64_t count = piece.lanes(c);
        Lanes sent = sign * change[c / kLanes];
        if constexpr (kAdds) sent += load_lanes(total + c, count);
        if constexpr (kWaits) {
          store_lanes(sent, total + c, count);
        } else {
          store_lanes(step(load_lanes(cell + c, count), sent), cell + c, count);
        }
      }
    }
  };

 public:
  // One active row. Its pieces have to be advanced in their order.
  class Row {
   public:
    Row(const SketchWalk& walk, int64_t r)
        : walk_(walk),
          gradient_(walk.gradient_.row(r)),
          row_state_(walk.state_.row_state.data != nullptr ? walk.row_state(r) : nullptr),
          alone_(walk.state_.is_alone(walk.slot(0, r))),
          rule_(walk.state_.step.accumulate.of_entry(r)) {
      for (int32_t j = 0; j < walk.state_.sketch.depth; ++j) buckets_[j] = walk.bucket(j, r);
    }

    // The buckets take in columns [column, column + columns), one piece; their new values go to
    // `values`.
    void advance(int64_t column, int64_t columns, float* values) {
      walk_.advance_(walk_, *this, column, columns, values);
      if (row_state_ != nullptr) ++row_state_;
    }
    // What advance() left is the new value already.
    float load(int64_t, const float* advanced) const { return *advanced; }
    float next(float value, float) const { return value; }
    void store(int64_t, float) const {}

   private:
    friend class SketchWalk;
    const SketchWalk& walk_;
    const float* gradient_;
    float* row_state_;  // of the next piece
    bool alone_;        // in a bucket of its own
    Accumulate rule_;
    Bucket buckets_[kMaxSketchDepth];
  };

 private:
  // Depth and choices are made once, for the whole walk.
  using Advance = void (*)(const SketchWalk&, const Row&, int64_t column, int64_t columns,
                           float* values);

  template <int kDepth>
  static Advance advance_of_depth(const SketchState& state) {
    if constexpr (kDepth < kMaxSketchDepth) {
      if (state.sketch.depth > kDepth) return advance_of_depth<kDepth + 1>(state);
    }
    // The pairs of combine and row weights that there are: check_sketch in update.cpp.
    const SketchStep& step = state.step;
    if (step.rows == RowWeights::by_depths) {
      return &advance_row<kDepth, Combine::median, RowWeights::by_depths>;
    }
    if (step.rows == RowWeights::by_power) {
      return &advance_row<kDepth, Combine::median, RowWeights::by_power>;
    }
    if (step.rows == RowWeights::by_scale) {
      return &advance_row<kDepth, Combine::mean, RowWeights::by_scale>;
    }
    if (step.combine == Combine::median) {
      return &advance_row<kDepth, Combine::median, RowWeights::constant>;
    }
    if (step.combine == Combine::minimum) {
      return &advance_row<kDepth, Combine::minimum, RowWeights::constant>;
    }
    return &advance_row<kDepth, Combine::mean, RowWeights::constant>;
  }

  Slot slot(int32_t j, int64_t r) const { return state_.plan->slots[j * state_.plan->rows + r]; }
  float* sum(SketchTurns::Entry entry) const { return sums_ + entry.sum() * state_.sketch.dim; }
  float* row_state(int64_t r) const { return state_.row_state.row(ids_ != nullptr ? ids_[r] : r); }

  Bucket bucket(int32_t j, int64_t r) const {
    const SketchStep& step = state_.step;
    const Slot place = slot(j, r);
    const SketchTurns::Entry entry = turns_->entry(j, r);
    const SketchView& sketch = state_.sketch;
    const int64_t bucket = sketch.place(j, slot_bucket(place));
    return {sketch.cells != nullptr ? sketch.cells + bucket * sketch.stride : nullptr,
            bucket,
            sum(entry),
            entry.turn(),
            step.with_signs ? slot_sign(place) : 1.0f,
            BucketStep::of(step, static_cast<float>(entry.members()))};
  }

  template <int kDepth, Combine kCombine, RowWeights kWeights>
  static void advance_row(const SketchWalk& walk, const Row& row, int64_t column, int64_t columns,
                          float* values) {
    if (walk.state_.sketch.bf16 != nullptr) {
      walk.piece<kDepth, kCombine, kWeights, true>(row, column, AnyPiece{columns}, values);
      return;
    }
    with_steps(columns, [&](const auto piece) {
      walk.piece<kDepth, kCombine, kWeights, false>(row, column, piece, values);
    });
  }

  template <int kDepth, Combine kCombine, RowWeights kWeights, bool kFewBits, class Piece>
  void piece(const Row& row, int64_t column, const Piece piece, float* values) const {
    const SketchStep& step = state_.step;
    const Bucket* const buckets = row.buckets_;
    const float* const g = row.gradient_ + column;
    const float cell_scale = step.cell_scale;
    float room[kFewBits ? kDepth : 1][kFewBits ? kWidestPiece : 1];
    float* cells[kDepth];
    for (int j = 0; j < kDepth; ++j) {
      if constexpr (kFewBits) {
        cells[j] = widen(buckets[j], column, piece, room[j]);
      } else {
        cells[j] = buckets[j].cells + column;
      }
    }
    Lanes estimate[kWidestPiece / kLanes];
    PieceSums<Lanes> sums;
    for (int64_t c = 0; c < piece.span(); c += kLanes) {
      Lanes v[kDepth];
      for (int j = 0; j < kDepth; ++j) {
        v[j] = cell_scale * buckets[j].sign * load_lanes(cells[j] + c, piece.lanes(c));
      }
      estimate[c / kLanes] = combine_readings(kCombine, v);
      add_column(kWeights, v, estimate[c / kLanes], load_lanes(g + c, piece.lanes(c)), sums);
    }
    const PieceSums<float> totals{sum_lanes(sums.noise), sum_lanes(sums.power),
                                  sum_lanes(sums.cross), sum_lanes(sums.input),
                                  sum_lanes(sums.sum)};
    float no_state = 0.0f;
    const PieceWeights weights =
        weigh_piece<kDepth>(kWeights, step, row.rule_, totals, piece.columns, row.alone_,
                            row.row_state_ != nullptr ? *row.row_state_ : no_state);
    Lanes change[kWidestPiece / kLanes];
    for (int64_t c = 0; c < piece.span(); c += kLanes) {
      const Lanes input = step.accumulate.input(load_lanes(g + c, piece.lanes(c)));
      change[c / kLanes] = piece_change(weights, estimate[c / kLanes], input);
      store_lanes(piece_value(weights, estimate[c / kLanes], input), values + c, piece.lanes(c));
    }
    if (!write_) return;
    for (int j = 0; j < kDepth; ++j) {
      buckets[j].take_in(change, cells[j], column, piece);
      if constexpr (kFewBits) {
        if (!buckets[j].waits()) round(cells[j], buckets[j], column, piece);
      }
    }
  }

  // Cells of few bits are floats while a piece is advanced.
  template <class Piece>
  float* widen(const Bucket& bucket, int64_t column, const Piece piece, float* room) const {
    const uint16_t* const bits = state_.sketch.bf16 + bucket.place * state_.sketch.stride + column;
    for (int64_t c = 0; c < piece.span(); c += kLanes) {
      store_lanes(bf16_to_float<Lanes>(load_words(bits + c, piece.lanes(c))), room + c, kLanes);
    }
    return room;
  }
  template <class Piece>
  void round(const float* cells, const Bucket& bucket, int64_t column, const Piece piece) const {
    const SketchView& sketch = state_.sketch;
    uint16_t* const bits = sketch.bf16 + bucket.place * sketch.stride + column;
    const RoundingKey::Row random = sketch.rounding.row(bucket.place);
    const Words first = kLaneNumbers + static_cast<uint32_t>(sketch.begin + column);
    for (int64_t c = 0; c < piece.span(); c += kLanes) {
      const int64_t lanes = piece.lanes(c);
      store_words(float_to_bf16(load_lanes(cells + c, lanes),
                                random.bits(first + static_cast<uint32_t>(c))),
                  bits + c, lanes);
    }
  }

  SketchState state_;
  const SketchTurns* turns_;
  float* sums_;  // [turns_->sums(), columns]
  const int32_t* ids_;
  ConstMatrix gradient_;
  Advance advance_;
  bool write_ = true;
};

}  // namespace sketchgrad::kernels
