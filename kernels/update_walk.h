#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <variant>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/sketch_walk.h"
#include "sketchgrad/kernels/update.h"
#include "sketchgrad/kernels/update_impl.h"

// update_rows on the CPU where a variable lies in a sketch. Columns are independent, rows are not
// (sketch_walk.h): a task walks all rows for one piece of the columns (sketch_piece_columns), a
// panel of rows at a time, in which first the variables are advanced and then the rule runs.
namespace sketchgrad::kernels {

// Columns of a range at most, and elements of a panel: the new values of both variables stay in the
// first-level cache.
inline constexpr int64_t kRangeColumns = 512;
inline constexpr int64_t kPanelElements = 2048;
static_assert(kWidestPiece <= kRangeColumns && kRangeColumns <= kPanelElements);

// Workspace of one variable and step; none where it is not in a sketch.
class StepSums {
 public:
  // Sketches of one plan have their turns in common: `other` is the step's other variable, or null.
  StepSums(const Exec& exec, const StateAccess& access, int64_t columns, const StepSums* other) {
    const auto* sketch = std::get_if<SketchState>(&access);
    if (sketch == nullptr) return;
    plan_ = sketch->plan;
    turns_ = other != nullptr && other->plan_ == plan_
                 ? other->turns_
                 : std::make_shared<const SketchTurns>(exec, *plan_);
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

// A variable whose elements know nothing of each other.
template <class Access>
struct ElementWalk {
  Access access;
  const int32_t* ids;
  ConstMatrix gradient;

  void advance(int64_t begin, int64_t end, Matrix values) const {
    for (int64_t r = begin; r < end; ++r) {
      if (const int64_t next = r + kPrefetchRows; next < gradient.rows) {
        prefetch_state(access, ids != nullptr ? ids[next] : next);
      }
      const auto row = access.row(r, ids != nullptr ? ids[r] : r);
      const float* g = gradient.row(r);
      float* value = values.row(r - begin);
#pragma omp simd
      for (int64_t c = 0; c < values.cols; ++c) value[c] = row(c, g[c]);
    }
  }
};

using VariableWalk = std::variant<ElementWalk<NoState>, ElementWalk<DenseState>, SketchWalk>;

// One range of the columns of a step.
struct UpdateWalk {
  UpdateRule rule;
  VariableWalk first;
  VariableWalk second;
  const int32_t* ids;
  ConstMatrix gradient;
  Matrix parameter;

  void operator()() {
    const int64_t panel = kPanelElements / gradient.cols;
    float values1[kPanelElements];
    float values2[kPanelElements];
    const Matrix first_values = contiguous(values1, panel, gradient.cols);
    const Matrix second_values = contiguous(values2, panel, gradient.cols);
    write_before_reading(first, first_values);
    write_before_reading(second, second_values);
    for (int64_t begin = 0; begin < gradient.rows; begin += panel) {
      const int64_t end = std::min(gradient.rows, begin + panel);
      advance(first, begin, end, first_values);
      advance(second, begin, end, second_values);
      std::visit([&](const auto& any) { update(any, begin, end, first_values, second_values); },
                 rule);
    }
  }

 private:
  static void advance(const VariableWalk& variable, int64_t begin, int64_t end, Matrix values) {
    std::visit([&](const auto& walk) { walk.advance(begin, end, values); }, variable);
  }

  void write_before_reading(VariableWalk& variable, Matrix values) const {
    auto* sketch = std::get_if<SketchWalk>(&variable);
    if (sketch == nullptr || !sketch->state.step.requery) return;
    for (int64_t begin = 0; begin < gradient.rows; begin += values.rows) {
      sketch->advance(begin, std::min(gradient.rows, begin + values.rows), values);
    }
    *sketch = sketch->reread();
  }

  template <class Rule>
  void update(const Rule& any, int64_t begin, int64_t end, Matrix values1, Matrix values2) const {
    const Rule local = any;
    for (int64_t r = begin; r < end; ++r) {
      const float* g = gradient.row(r);
      const float* x1 = values1.row(r - begin);
      const float* x2 = values2.row(r - begin);
      float* w = parameter.row(ids != nullptr ? ids[r] : r);
      const int64_t next = r + values1.rows;
      for (int64_t from = 0; from < gradient.cols; from += kPieceColumns) {
        const int64_t to = std::min(gradient.cols, from + kPieceColumns);
        if (next < gradient.rows) {  // in the next panel: this one's rows are in the cache by now
          prefetch_floats(gradient.row(next) + from, to - from);
          prefetch_floats(parameter.row(ids != nullptr ? ids[next] : next) + from, to - from);
        }
#pragma omp simd
        for (int64_t c = from; c < to; ++c) w[c] = local(w[c], g[c], x1[c], x2[c]);
      }
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

  VariableWalk operator()(const NoState& access) const {
    return ElementWalk<NoState>{access, ids, gradient};
  }
  VariableWalk operator()(const DenseState& access) const {
    return ElementWalk<DenseState>{
        {access.state.columns(begin, gradient.cols), access.accumulate}, ids, gradient};
  }
  VariableWalk operator()(SketchState access) const {
    access.sketch = access.sketch.columns(begin, gradient.cols);
    if (access.row_state.data != nullptr) {
      const int64_t pieces = (gradient.cols + piece_columns - 1) / piece_columns;
      access.row_state = access.row_state.columns(begin / piece_columns, pieces);
    }
    return SketchWalk{access, &sums.turns(), sums.range(begin), ids, gradient, piece_columns};
  }
};

template <class Policy>
void update_sketched_rows_impl(const Policy&, const Exec& exec, const UpdateRule& rule,
                               const StateAccess& first, const StateAccess& second,
                               const int32_t* ids, ConstMatrix gradient, Matrix parameter) {
  if (gradient.cols == 0) return;
  const StepSums first_sums(exec, first, gradient.cols, nullptr);
  const StepSums second_sums(exec, second, gradient.cols, &first_sums);
  const int64_t piece = sketch_piece_columns(gradient.cols);
  const int64_t widest = kRangeColumns / piece * piece;
  const auto walk = [&](int64_t begin, int64_t end) {
    const ConstMatrix g = gradient.columns(begin, end - begin);
    UpdateWalk{rule,
               std::visit(MakeVariableWalk{first_sums, begin, piece, ids, g}, first),
               std::visit(MakeVariableWalk{second_sums, begin, piece, ids, g}, second),
               ids,
               g,
               parameter.columns(begin, end - begin)}();
  };
  Policy::for_each_span(sketch_pieces(gradient.cols), [&](int64_t first_piece, int64_t last_piece) {
    const int64_t last = std::min(gradient.cols, last_piece * piece);
    for (int64_t begin = first_piece * piece; begin < last; begin += widest) {
      walk(begin, std::min(last, begin + widest));
    }
  });
}

}  // namespace sketchgrad::kernels
