#include "sketchgrad/optim/row_wise_memory.h"

#include "sketchgrad/kernels/factors.h"

namespace sketchgrad {

void advance_row_means(const StepRows& step, const kernels::Accumulate& accumulate,
                       const float* sums, const Tensor& rows) {
  kernels::Accumulate mean = accumulate;
  mean.scale /= static_cast<float>(step.gradient().cols);
  kernels::advance_entries(step.exec(), step.ids(), step.count(), mean, sums, rows.data<float>());
}

RowWiseMemory::RowWiseMemory(const StateMemoryContext& context) {
  check(context.role == MomentRole::second,
        "[rowwise] {} is a first moment, whose elements differ in sign: their mean is no estimate; "
        "rowwise is for second moments",
        context.name);
  rows_ = state_floats(context, "rows", context.rows);
}

int64_t RowWiseMemory::planned_bytes(const StateMemoryContext& context) {
  return context.rows * size_of(DType::float32);
}

kernels::StateAccess RowWiseMemory::begin(StepRows& step, const kernels::Accumulate& accumulate) {
  advance_row_means(step, accumulate, step.row_sums(accumulate.squared), rows_);
  return kernels::FactoredState{rows_.data<float>(), nullptr, false, kAsItIs};
}

std::vector<std::pair<std::string, Tensor>> RowWiseMemory::tensors() const {
  return {{"rows", rows_}};
}

}  // namespace sketchgrad
