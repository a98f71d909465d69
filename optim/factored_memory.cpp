#include "sketchgrad/optim/factored_memory.h"

#include <limits>

#include "sketchgrad/kernels/factors.h"

namespace sketchgrad {

namespace {

Tensor workspace(const StepRows& rows, const char* name, int64_t count) {
  return Tensor::empty({count}, {Category::workspace, name}, DType::float32, rows.device());
}

// What the rule reads is the factors as they are.
constexpr kernels::Accumulate kAsItIs{1.0f, 0.0f, false};

// rows[id] <- decay rows[id] + scale mean of the entry's inputs; sums [K]: StepRows::row_sums.
void advance_row_means(const StepRows& step, const kernels::Accumulate& accumulate,
                       const float* sums, const Tensor& rows) {
  kernels::Accumulate mean = accumulate;
  mean.scale /= static_cast<float>(step.gradient().cols);
  kernels::advance_entries(step.exec(), step.ids(), step.count(), mean, sums, rows.data<float>());
}

Shape columns_shape(const StateMemoryContext& context) {
  return context.columns_shape.empty() ? Shape{context.dim} : context.columns_shape;
}

constexpr auto kFloat = static_cast<int64_t>(sizeof(float));

}  // namespace

RowWiseMemory::RowWiseMemory(const StateMemoryContext& context) {
  check(context.role == MomentRole::second,
        "[rowwise] {} is a first moment, whose elements differ in sign: their mean is no estimate; "
        "rowwise is for second moments",
        context.name);
  rows_ = state_floats(context, "rows", context.rows);
}

int64_t RowWiseMemory::planned_bytes(const StateMemoryContext& context) {
  return context.rows * kFloat;
}

kernels::StateAccess RowWiseMemory::begin(StepRows& step, const kernels::Accumulate& accumulate) {
  advance_row_means(step, accumulate, step.row_sums(accumulate.squared), rows_);
  return kernels::FactoredState{rows_.data<float>(), nullptr, false, kAsItIs};
}

std::vector<std::pair<std::string, Tensor>> RowWiseMemory::tensors() const {
  return {{"rows", rows_}};
}

RankOneMemory::RankOneMemory(const StateMemoryContext& context)
    : rows_(state_floats(context, "rows", context.rows)),
      columns_(state_floats(context, "columns", context.dim)) {}

int64_t RankOneMemory::planned_bytes(const StateMemoryContext& context) {
  return (context.rows + context.dim) * kFloat;
}

kernels::StateAccess RankOneMemory::begin(StepRows& step, const kernels::Accumulate& accumulate) {
  const kernels::Exec& exec = step.exec();
  const int64_t dim = columns_.numel();
  float* const columns = columns_.data<float>();
  const Tensor sums = workspace(step, "factors.column_sums", dim);
  const Tensor totals = workspace(step, "factors.totals", 3);
  float* const part = totals.data<float>();
  float* const whole = part + 1;
  float* const kept = part + 2;

  kernels::column_sums(exec, step.ids(), step.gradient(), accumulate.squared, sums.data<float>());
  kernels::sum_of_entries(exec, step.ids(), step.count(), rows_.data<float>(), part);
  kernels::sum_of_entries(exec, nullptr, dim, columns, whole);
  const float* const by_row = step.row_sums(accumulate.squared);
  kernels::Accumulate rest = accumulate;  // of the rows' step
  kernels::PartialDecay decay{accumulate.decay, static_cast<float>(dim), part, whole};
  if (accumulate.decays != nullptr) {
    rest.scale = 0.0f;
    advance_row_means(step, rest, by_row, rows_);
    kernels::sum_of_entries(exec, step.ids(), step.count(), rows_.data<float>(), kept);
    decay.kept = kept;
    rest = {1.0f, accumulate.scale, accumulate.squared};
  } else if (step.ids() == nullptr) {
    // Where all rows are active they are the whole, to the last bit.
    decay.factor = 1.0f;
    decay.part = whole;
  }
  kernels::advance_columns(exec, decay, accumulate.scale, sums.data<float>(), dim, columns);
  advance_row_means(step, rest, by_row, rows_);

  shape_ = workspace(step, "factors.shape", dim);
  kernels::sum_of_entries(exec, nullptr, dim, columns, whole);
  kernels::over_mean(exec, columns, whole, dim, shape_.data<float>());
  return kernels::FactoredState{rows_.data<float>(), shape_.data<float>(), false, kAsItIs};
}

std::vector<std::pair<std::string, Tensor>> RankOneMemory::tensors() const {
  return {{"rows", rows_}, {"columns", columns_}};
}

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
  return floats * kFloat;
}

// cover(k) <- decay cover(k) + scale * max over the columns of index k; in a row-sparse step it
// does not fall.
void Sm3Memory::raise_axes(StepRows& step, float decay, float scale, const Tensor& column_maxima) {
  for (Axis& axis : axes_) {
    const int64_t size = axis.columns.size;
    const Tensor maxima = workspace(step, "sm3.axis_maxima", size);
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
  const Tensor result = workspace(step, "sm3.column_cover", dim_);
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
  row_maxima_ = workspace(step, "sm3.row_maxima", gradient.rows);
  column_maxima_ = workspace(step, "sm3.column_maxima", gradient.cols);
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
