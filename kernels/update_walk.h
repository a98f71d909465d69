#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <variant>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/sketch_walk.h"
#include "sketchgrad/kernels/update.h"
#include "sketchgrad/kernels/update_impl.h"

// update_rows on the CPU where a variable is advanced piece by piece (sketch_piece_columns): one
// that lies in a sketch, or a PieceAccess. A piece's variables are advanced, and the rule runs on
// it, while lines of later rows are on their way, so that arithmetic and memory overlap. Of a
// sketch, columns are independent, rows are not (sketch_walk.h): a task walks all rows for a range
// of the columns. Without one, tasks take rows, or pieces of long ones.
namespace sketchgrad::kernels {

// Columns of a range at most.
inline constexpr int64_t kRangeColumns = 512;
static_assert(kWidestPiece <= kRangeColumns);

// The plan by whose buckets the rows are walked, or null: that of all sketches of the step, of one
// depth. Rows are scattered then, which costs more than it saves where few of them share a bucket
// (measured: docs/results/). The results are the same either way.
inline const SketchPlan* plan_to_walk_by(const StateAccess& first, const StateAccess& second) {
  const auto* sketch1 = std::get_if<SketchState>(&first);
  const auto* sketch2 = std::get_if<SketchState>(&second);
  if (sketch1 != nullptr && sketch2 != nullptr && sketch1->plan != sketch2->plan) return nullptr;
  if (sketch1 == nullptr && sketch2 == nullptr) return nullptr;
  const SketchPlan* const plan = sketch1 != nullptr ? sketch1->plan : sketch2->plan;
  if (plan->depth != 1) return nullptr;
  return 5 * plan->rows >= 6 * plan->groups[0].count ? plan : nullptr;
}

inline bool is_sketch(const StateAccess& access) {
  return std::holds_alternative<SketchState>(access);
}

// Workspace of one variable and step; none where it is not in a sketch.
class StepSums {
 public:
  // Sketches of one plan have their turns in common: `other` is the step's other variable, or null.
  StepSums(const Exec& exec, const StateAccess& access, int64_t columns, WalkOrder order,
           const StepSums* other) {
    const auto* sketch = std::get_if<SketchState>(&access);
    if (sketch == nullptr) return;
    plan_ = sketch->plan;
    turns_ = other != nullptr && other->plan_ == plan_
                 ? other->turns_
                 : std::make_shared<const SketchTurns>(exec, *plan_, order);
    sums_.emplace(exec, turns_->sums() * columns, "sketch.sums");
  }
  const SketchTurns& turns() const { return *turns_; }
  // Those of the range that begins at this column; ranges lie one after the other.
  float* range(int64_t column) const { return sums_->data() + column * turns_->sums(); }

 private:
  const SketchPlan* plan_ = nullptr;
  std::shared_ptr<const SketchTurns> turns_;
  std::optional<ScratchArray<float>> sums_;
};

// A variable whose elements know nothing of each other: the rule advances them as it goes.
template <class Access>
struct ElementWalk {
  Access access;
  const int32_t* ids;

  void prefetch(int64_t r, int64_t column, int64_t columns) const {
    prefetch_state(access, ids != nullptr ? ids[r] : r, column, column + columns);
  }

  struct Row {
    typename Access::Row row;
    Row(const ElementWalk& walk, int64_t r)
        : row(walk.access.row(r, walk.ids != nullptr ? walk.ids[r] : r)) {}
    void advance(int64_t, int64_t, float*) const {}
    float load(int64_t column, const float*) const { return row.load(column); }
    float next(float old, float g) const { return row.next(old, g); }
    void store(int64_t column, float value) const { row.store(column, value); }
  };
};

// A variable that is advanced piece by piece.
struct PieceWalk {
  PieceAccess access;
  const int32_t* ids;
  ConstMatrix gradient;  // columns from `begin` of the table on
  int64_t begin;
  int64_t begin_piece;  // the piece that begins there

  int64_t table_row(int64_t r) const { return ids != nullptr ? ids[r] : r; }

  void prefetch(int64_t r, int64_t column, int64_t columns) const {
    const auto ask = [&](const auto& table) {
      prefetch_elements(table.row(table_row(r)) + begin + column, columns);
    };
    if (const auto* bf16 = std::get_if<Bf16State>(&access)) ask(bf16->state);
    if (const auto* block = std::get_if<BlockState>(&access)) {
      ask(block->codes);
      if (column == 0) prefetch_elements(block->scales.row(table_row(r)) + begin_piece, 1);
    }
  }

  // New values of columns [column, column + columns) of the table, one piece. There is room in
  // `values` for whole lanes, and those behind the piece are written, too: what a masked store has
  // written has to be in the cache before it can be read.
  static void advance_piece(const FactoredState::Row& row, const float* gradient, int64_t column,
                            int64_t columns, int64_t, float* values) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) values[c] = row.next(column + c, gradient[c]);
  }
  static void advance_piece(const Bf16State::Row& row, const float* gradient, int64_t column,
                            int64_t columns, int64_t, float* values) {
    with_steps(columns, [&, row](const auto piece) {
      uint16_t* const x = row.x + column;
      for (int64_t c = 0; c < piece.span(); c += kLanes) {
        const int64_t lanes = piece.lanes(c);
        const Lanes next = row.next_of(load_words(x + c, lanes), load_lanes(gradient + c, lanes));
        store_lanes(next, values + c, kLanes);
        store_words(row.rounded(next, lane_numbers(column + c)), x + c, lanes);
      }
    });
  }
  static void advance_piece(const BlockState::Row& row, const float* gradient, int64_t column,
                            int64_t columns, int64_t piece_number, float* values) {
    with_steps(columns, [&](const auto piece) {
      row.with_signs ? advance_block<true>(row, gradient, column, piece, piece_number, values)
                     : advance_block<false>(row, gradient, column, piece, piece_number, values);
    });
  }
  // Rows by value: codes are bytes, which could be those of a row that is referred to.
  template <bool kSigned, class Piece>
  static void advance_block(const BlockState::Row row, const float* gradient, int64_t column,
                            const Piece piece, int64_t piece_number, float* values) {
    uint8_t* const codes = row.codes + column;
    const float old = row.scales[piece_number];
    Words magnitudes{};
    for (int64_t c = 0; c < piece.span(); c += kLanes) {
      const int64_t lanes = piece.lanes(c);
      const Lanes next =
          row.next_of<kSigned>(load_words(codes + c, lanes), load_lanes(gradient + c, lanes), old);
      const Words magnitude = magnitude_bits<Words>(next);
      magnitudes = magnitudes > magnitude ? magnitudes : magnitude;
      store_lanes(next, values + c, kLanes);
    }
    const BlockScale scale = BlockScale::of<kSigned>(same_bits<float>(largest_lane(magnitudes)));
    row.scales[piece_number] = scale.scale;
    for (int64_t c = 0; c < piece.span(); c += kLanes) {
      const Lanes value = load_lanes(values + c, kLanes);
      store_words(row.rounded<kSigned>(value, lane_numbers(column + c), scale.inverse), codes + c,
                  piece.lanes(c));
    }
  }
  static Words lane_numbers(int64_t first) { return kLaneNumbers + static_cast<uint32_t>(first); }

  class Row {
   public:
    Row(const PieceWalk& walk, int64_t r)
        : row_(std::visit([&](const auto& any) -> AnyRow { return any.row(r, walk.table_row(r)); },
                          walk.access)),
          gradient_(walk.gradient.row(r)),
          begin_(walk.begin),
          piece_(walk.begin_piece) {}
    void advance(int64_t column, int64_t columns, float* values) {
      std::visit(
          [&](const auto& row) {
            advance_piece(row, gradient_ + column, begin_ + column, columns, piece_, values);
          },
          row_);
      ++piece_;
    }
    float load(int64_t, const float* advanced) const { return *advanced; }
    float next(float value, float) const { return value; }
    void store(int64_t, float) const {}

   private:
    using AnyRow = std::variant<FactoredState::Row, Bf16State::Row, BlockState::Row>;
    AnyRow row_;
    const float* gradient_;
    int64_t begin_;
    int64_t piece_;
  };
};

using VariableWalk =
    std::variant<ElementWalk<NoState>, ElementWalk<DenseState>, SketchWalk, PieceWalk>;

// A range of the columns of a step, and of its rows where there is no sketch.
struct UpdateWalk {
  UpdateRule rule;
  VariableWalk first;
  VariableWalk second;
  const int32_t* ids;
  ConstMatrix gradient;
  Matrix parameter;
  int64_t piece_columns;
  const int32_t* order;  // in which rows are walked; null: as they stand

  void operator()() {
    write_before_reading(first);
    write_before_reading(second);
    update_rows(0, gradient.rows);
  }
  void update_rows(int64_t begin, int64_t end) const {
    std::visit([&](const auto& any_rule, const auto& walk1,
                   const auto& walk2) { update(any_rule, walk1, walk2, begin, end); },
               rule, first, second);
  }

 private:
  int64_t entry(int64_t i) const { return order != nullptr ? order[i] : i; }
  int64_t table_row(int64_t r) const { return ids != nullptr ? ids[r] : r; }

  // f(column, columns)
  template <class F>
  void for_each_piece(const F& f) const {
    for (int64_t column = 0; column < gradient.cols; column += piece_columns) {
      const int64_t columns = std::min(piece_columns, gradient.cols - column);
      if (columns == kPieceColumns) {  // a number of turns that the compiler knows
        f(column, std::integral_constant<int64_t, kPieceColumns>());
      } else {
        f(column, columns);
      }
    }
  }

  void write_before_reading(VariableWalk& variable) const {
    auto* const walk = std::get_if<SketchWalk>(&variable);
    if (walk == nullptr || !walk->requery()) return;
    float values[kWidestPiece];
    for (int64_t i = 0; i < gradient.rows; ++i) {
      SketchWalk::Row row(*walk, entry(i));
      for_each_piece(
          [&](int64_t column, int64_t columns) { row.advance(column, columns, values); });
    }
    *walk = walk->reread();
  }

  template <class Rule, class First, class Second>
  void update(const Rule& any_rule, const First& first_walk, const Second& second_walk,
              int64_t begin, int64_t end) const {
    const Rule local = any_rule;
    const int64_t ahead = prefetch_rows(gradient.cols, kUpdateStreams);
    float values1[kWidestPiece];
    float values2[kWidestPiece];
    for (int64_t i = begin; i < end; ++i) {
      const int64_t r = entry(i);
      if (ids != nullptr && ids[r] < 0) continue;
      typename First::Row row1(first_walk, r);
      typename Second::Row row2(second_walk, r);
      const float* const gradients = gradient.row(r);
      float* const parameters = parameter.row(table_row(r));
      const bool more = i + ahead < end;
      const int64_t next = more ? entry(i + ahead) : 0;
      for_each_piece([&](int64_t column, auto columns) {
        if (more) {
          prefetch_floats(gradient.row(next) + column, columns);
          prefetch_floats(parameter.row(table_row(next)) + column, columns);
          first_walk.prefetch(next, column, columns);
          second_walk.prefetch(next, column, columns);
        }
        row1.advance(column, columns, values1);
        row2.advance(column, columns, values2);
        const float* const g = gradients + column;
        float* const w = parameters + column;
#pragma omp simd
        for (int64_t c = 0; c < columns; ++c) {
          const float old = w[c];
          const float old1 = row1.load(column + c, values1 + c);
          const float old2 = row2.load(column + c, values2 + c);
          const float x1 = row1.next(old1, g[c]);
          const float x2 = row2.next(old2, g[c]);
          row1.store(column + c, x1);
          row2.store(column + c, x2);
          w[c] = local(old, g[c], x1, x2);
        }
      });
    }
  }
};

// The variable of the range that begins at column `begin`; `gradient` is cut to it.
struct MakeVariableWalk {
  const StepSums& sums;
  int64_t begin;
  int64_t piece_columns;
  const int32_t* ids;
  ConstMatrix gradient;

  VariableWalk operator()(const NoState& access) const { return ElementWalk<NoState>{access, ids}; }
  VariableWalk operator()(const DenseState& access) const {
    return ElementWalk<DenseState>{{access.state.columns(begin, gradient.cols), access.accumulate},
                                   ids};
  }
  VariableWalk operator()(SketchState access) const {
    access.sketch = access.sketch.columns(begin, gradient.cols);
    if (access.row_state.data != nullptr) {
      const int64_t pieces = (gradient.cols + piece_columns - 1) / piece_columns;
      access.row_state = access.row_state.columns(begin / piece_columns, pieces);
    }
    return SketchWalk(access, sums.turns(), sums.range(begin), ids, gradient);
  }
  template <class Access>
  VariableWalk operator()(const Access& access) const {
    return PieceWalk{access, ids, gradient, begin, begin / piece_columns};
  }
};

template <class Policy>
void update_pieces_impl(const Policy& policy, const Exec& exec, const UpdateRule& rule,
                        const StateAccess& first, const StateAccess& second, const int32_t* ids,
                        ConstMatrix gradient, Matrix parameter) {
  if (gradient.cols == 0) return;
  const SketchPlan* const plan = plan_to_walk_by(first, second);
  const WalkOrder order = plan != nullptr ? WalkOrder::buckets : WalkOrder::rows;
  const StepSums first_sums(exec, first, gradient.cols, order, nullptr);
  const StepSums second_sums(exec, second, gradient.cols, order, &first_sums);
  const int64_t piece = sketch_piece_columns(gradient.cols);
  const int64_t widest = kRangeColumns / piece * piece;
  const auto walk = [&](int64_t begin, int64_t end) {
    const ConstMatrix g = gradient.columns(begin, end - begin);
    return UpdateWalk{rule,
                      std::visit(MakeVariableWalk{first_sums, begin, piece, ids, g}, first),
                      std::visit(MakeVariableWalk{second_sums, begin, piece, ids, g}, second),
                      ids,
                      g,
                      parameter.columns(begin, end - begin),
                      piece,
                      plan != nullptr ? plan->groups[0].order : nullptr};
  };
  if (!is_sketch(first) && !is_sketch(second)) {
    const int64_t tile = kBlockElements / piece * piece;
    const int64_t tiles = (gradient.cols + tile - 1) / tile;
    for_each_range(policy, gradient.rows * tiles, kBlockElements / gradient.cols,
                   [&](int64_t begin, int64_t end) {
                     if (tiles == 1) return walk(0, gradient.cols).update_rows(begin, end);
                     for (int64_t task = begin; task < end; ++task) {
                       const int64_t column = task % tiles * tile;
                       walk(column, std::min(gradient.cols, column + tile))
                           .update_rows(task / tiles, task / tiles + 1);
                     }
                   });
    return;
  }
  Policy::for_each_span(sketch_pieces(gradient.cols), [&](int64_t first_piece, int64_t last_piece) {
    const int64_t last = std::min(gradient.cols, last_piece * piece);
    for (int64_t begin = first_piece * piece; begin < last; begin += widest) {
      walk(begin, std::min(last, begin + widest))();
    }
  });
}

}  // namespace sketchgrad::kernels
