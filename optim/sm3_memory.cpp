#include "sketchgrad/optim/sm3_memory.h"

#include <algorithm>
#include <limits>

#include "sketchgrad/kernels/factors.h"

namespace sketchgrad {

namespace {

Shape columns_shape(const StateMemoryContext& context) {
  return context.columns_shape.empty() ? Shape{context.dim} : context.columns_shape;
}

}  // namespace

Sm3Memory::Sm3Memory(const StateMemoryContext& context, const Sm3Covers& spec)
    : name_(context.name), variant_(spec.variant), dim_(context.dim) {
  check(spec.variant == 1 || spec.variant == 2, "[sm3] variant {} of {} is none of 1, 2",
        spec.variant, name_);
  check(!context.decays_skipped || context.accumulate.decay == 1.0f,
        "[sm3] {}: bounds of columns cannot decay by the steps that left single rows out", name_);
  check(context.role == MomentRole::second,
        "[sm3] {} is a first moment: bounds of squares hold second moments only", name_);
  rows_ = state_floats(context, "rows", context.rows);
  const Shape shape = columns_shape(context);
  int64_t outer = 1;
  int64_t inner = context.dim;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    const int64_t size = shape[axis];
    inner /= std::max<int64_t>(size, 1);
    axes_.push_back(
        {{outer, size, inner}, state_floats(context, fmt::format("axis{}", axis + 1), size)});
    outer *= size;
  }
}

int64_t Sm3Memory::planned_bytes(const StateMemoryContext& context) {
  int64_t floats = context.rows;
  for (const int64_t size : columns_shape(context)) floats += size;
  return floats * size_of(DType::float32);
}

// cover(k) <- decay cover(k) + scale * max over the columns of index k; in a row-sparse step it
// does not fall.
void Sm3Memory::raise_axes(StepRows& step, float decay, float scale, const Tensor& column_maxima) {
  for (Axis& axis : axes_) {
    const int64_t size = axis.columns.size;
    const Tensor maxima = step.floats("sm3.axis_maxima", size);
    float* const raised = maxima.data<float>();
    float* const cover = axis.cover.data<float>();
    kernels::axis_maxima(step.exec(), axis.columns, column_maxima.data<float>(), raised);
    if (step.ids() == nullptr) {
      kernels::advance_entries(step.exec(), nullptr, size, {decay, scale}, raised, cover);
    } else {
      kernels::advance_entries(step.exec(), nullptr, size, {scale, decay}, cover, raised);
      kernels::raise_entries(step.exec(), raised, size, cover);
    }
  }
}

// The least bound over the axes, for each column.
Tensor Sm3Memory::column_cover(const StepRows& step) const {
  const Tensor result = step.floats("sm3.column_cover", dim_);
  result.fill(std::numeric_limits<float>::infinity());
  for (const Axis& axis : axes_) {
    kernels::spread_minimum(step.exec(), axis.columns, axis.cover.data<float>(),
                            result.data<float>());
  }
  return result;
}

kernels::StateAccess Sm3Memory::begin(StepRows& step, const kernels::Accumulate& accumulate) {
  const kernels::ConstMatrix& gradient = step.gradient();
  column_cover_ = column_cover(step);
  row_maxima_ = step.floats("sm3.row_maxima", gradient.rows);
  column_maxima_ = step.floats("sm3.column_maxima", gradient.cols);
  float* const rows = rows_.data<float>();
  const bool first = variant_ == 1;
  const kernels::Covers covers{rows, column_cover_.data<float>(), first ? 0.0f : accumulate.decay,
                               first ? 1.0f : accumulate.scale};
  kernels::row_maxima(step.exec(), step.ids(), gradient, covers, row_maxima_.data<float>());
  kernels::column_maxima(step.exec(), step.ids(), gradient, covers, column_maxima_.data<float>());
  if (first) {
    kernels::advance_entries(step.exec(), step.ids(), gradient.rows, accumulate,
                             row_maxima_.data<float>(), rows);
    raise_axes(step, accumulate.decay, accumulate.scale, column_maxima_);
    column_cover_ = column_cover(step);
  }
  return kernels::FactoredState{rows, column_cover_.data<float>(), true,
                                first ? kAsItIs : accumulate};
}

void Sm3Memory::end(StepRows& step) {
  if (variant_ == 2) {
    kernels::advance_entries(step.exec(), step.ids(), step.count(), {0.0f, 1.0f},
                             row_maxima_.data<float>(), rows_.data<float>());
    raise_axes(step, 0.0f, 1.0f, column_maxima_);
  }
  abandon();
}

std::vector<std::pair<std::string, Tensor>> Sm3Memory::tensors() const {
  std::vector<std::pair<std::string, Tensor>> result{{"rows", rows_}};
  for (size_t axis = 0; axis < axes_.size(); ++axis) {
    result.push_back({fmt::format("axis{}", axis + 1), axes_[axis].cover});
  }
  return result;
}

void Sm3Memory::save(StateDict& state, const std::string& prefix) const {
  state.set_integer(prefix + "variant", variant_);
}

void Sm3Memory::load(const StateDict& state, const std::string& prefix) {
  const int64_t variant = state.integer(prefix + "variant");
  check(variant == variant_, "[sm3] {}: {} holds variant {}, this optimizer has variant {}", name_,
        state.source, variant, variant_);
  StateMemory::load(state, prefix);
}

}  // namespace sketchgrad
