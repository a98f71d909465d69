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

void check_access(const char* name, const StateAccess& access, ConstMatrix gradient,
                  ConstMatrix parameter) {
  const char* op = "update_rows";
  if (const auto* dense = std::get_if<DenseState>(&access)) {
    check_matrix(op, name, dense->state);
    check_same_cols(op, name, dense->state, "gradient", gradient);
    if (dense->state.rows != parameter.rows) {
      refuse(op, "{} has {} rows, parameter has {}", name, dense->state.rows, parameter.rows);
    }
  } else if (const auto* sketched = std::get_if<SketchState>(&access)) {
    check_sketch(name, *sketched, gradient, parameter.rows);
  }
}

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
  check_access("first", first, gradient, parameter);
  check_access("second", second, gradient, parameter);
  const std::optional<ElementAccess> first_elements = element_access(first);
  const std::optional<ElementAccess> second_elements = element_access(second);
  if (first_elements && second_elements) {
    dispatch(exec, cpu::update_rows, cuda::update_rows, rule, *first_elements, *second_elements,
             ids, gradient, parameter);
  } else {
    dispatch(exec, cpu::update_sketched_rows, cuda::update_sketched_rows, rule, first, second, ids,
             gradient, parameter);
  }
}

}  // namespace sketchgrad::kernels
