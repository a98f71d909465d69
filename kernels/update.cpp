#include "sketchgrad/kernels/update.h"

#include <optional>
#include <type_traits>

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/update_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_sketch(const char* name, const SketchState& state, ConstMatrix gradient,
                  int64_t table_rows) {
  const char* op = "update_rows";
  const SketchView& sketch = state.sketch;
  if (sketch.dim != gradient.cols) {
    refuse(op, "{} has {} columns, gradient has {}", name, sketch.dim, gradient.cols);
  }
  if (sketch.stride < sketch.dim) {
    refuse(op, "{} has rows of {} columns {} apart", name, sketch.dim, sketch.stride);
  }
  const SketchPlan& plan = *state.plan;
  if (plan.rows != gradient.rows || plan.depth != sketch.depth || plan.width != sketch.width) {
    refuse(op, "{} [{}, {}] has a plan for {} rows and [{}, {}], gradient has {} rows", name,
           sketch.depth, sketch.width, plan.rows, plan.depth, plan.width, gradient.rows);
  }
  const SketchStep& step = state.step;
  const bool by_depths = step.rows == RowWeights::by_depths;
  const bool by_power = step.rows == RowWeights::by_power;
  const bool by_scale = step.rows == RowWeights::by_scale;
  const bool with_state = by_power || by_scale;
  if ((by_depths || by_power) && step.combine != Combine::median) {
    refuse(op, "{} weighs medians, it cannot combine readings otherwise", name);
  }
  if (by_scale && step.combine != Combine::mean) {
    refuse(op, "{} weighs means, it cannot combine readings otherwise", name);
  }
  if (with_state && step.accumulate.squared != by_scale) {
    refuse(op, "scales go with squared inputs and powers with plain ones, {} has the other", name);
  }
  if (by_depths && sketch.depth < 2) {
    refuse(op, "{} of depth {} has no second reading to compare with", name, sketch.depth);
  }
  if (step.requery && step.rows != RowWeights::constant) {
    refuse(op, "{} is read again after the step, and its rows cannot be weighed before", name);
  }
  const Matrix& rows = state.row_state;
  if (with_state && (rows.rows != table_rows || rows.cols != sketch_pieces(sketch.dim))) {
    refuse(op, "row state [{}, {}] of {} must be [{}, {}]", rows.rows, rows.cols, name, table_rows,
           sketch_pieces(sketch.dim));
  }
}

struct CheckAccess {
  const char* name;
  ConstMatrix gradient;
  ConstMatrix parameter;

  void operator()(const NoState&) const {}
  void operator()(const DenseState& state) const {
    check_matrix("update_rows", name, state.state);
    check_same_cols("update_rows", name, state.state, "gradient", gradient);
    if (state.state.rows != parameter.rows) {
      refuse("update_rows", "{} has {} rows, parameter has {}", name, state.state.rows,
             parameter.rows);
    }
  }
  void operator()(const SketchState& state) const {
    check_sketch(name, state, gradient, parameter.rows);
  }
  void operator()(const FactoredState& state) const {
    check_array("update_rows", name, state.rows, parameter.rows);
  }
  void operator()(const Bf16State& state) const { check_view(state.state); }
  void operator()(const BlockState& state) const {
    check_view(state.codes);
    const int64_t pieces = sketch_pieces(gradient.cols);
    if (state.scales.rows != parameter.rows || state.scales.cols != pieces) {
      refuse("update_rows", "scales [{}, {}] of {} must be [{}, {}]", state.scales.rows,
             state.scales.cols, name, parameter.rows, pieces);
    }
  }

 private:
  template <class T>
  void check_view(const MatrixView<T>& view) const {
    if (view.rows != parameter.rows || view.cols != gradient.cols || view.stride != view.cols) {
      refuse("update_rows", "{} [{}, {}] with a stride of {} must be [{}, {}], contiguous", name,
             view.rows, view.cols, view.stride, parameter.rows, gradient.cols);
    }
    check_array("update_rows", name, view.data, view.rows * view.cols);
  }
};

// The access where its elements know nothing of each other.
std::optional<ElementAccess> element_access(const StateAccess& access) {
  return std::visit(
      [](const auto& any) -> std::optional<ElementAccess> {
        if constexpr (std::is_constructible_v<ElementAccess, decltype(any)>) return any;
        return std::nullopt;
      },
      access);
}

}  // namespace

void update_rows(const Exec& exec, const UpdateRule& rule, const StateAccess& first,
                 const StateAccess& second, const int32_t* ids, ConstMatrix gradient,
                 Matrix parameter) {
  const char* op = "update_rows";
  check_matrix(op, "gradient", gradient);
  check_matrix(op, "parameter", parameter);
  check_same_cols(op, "gradient", gradient, "parameter", parameter);
  if (gradient.rows > parameter.rows || (ids == nullptr && gradient.rows != parameter.rows)) {
    refuse(op, "gradient [{}, {}] does not fit parameter [{}, {}]", gradient.rows, gradient.cols,
           parameter.rows, parameter.cols);
  }
  std::visit(CheckAccess{"first", gradient, parameter}, first);
  std::visit(CheckAccess{"second", gradient, parameter}, second);
  const std::optional<ElementAccess> first_elements = element_access(first);
  const std::optional<ElementAccess> second_elements = element_access(second);
  if (first_elements && second_elements) {
    dispatch(exec, cpu::update_rows, cuda::update_rows, rule, *first_elements, *second_elements,
             ids, gradient, parameter);
  } else {
    dispatch(exec, cpu::update_pieces, cuda::update_pieces, rule, first, second, ids, gradient,
             parameter);
  }
}

}  // namespace sketchgrad::kernels
