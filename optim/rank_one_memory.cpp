#include "sketchgrad/optim/rank_one_memory.h"

#include "sketchgrad/kernels/factors.h"
#include "sketchgrad/optim/row_wise_memory.h"

namespace sketchgrad {

RankOneMemory::RankOneMemory(const StateMemoryContext& context)
    : rows_(state_floats(context, "rows", context.rows)),
      columns_(state_floats(context, "columns", context.dim)) {}

int64_t RankOneMemory::planned_bytes(const StateMemoryContext& context) {
  return (context.rows + context.dim) * size_of(DType::float32);
}

kernels::StateAccess RankOneMemory::begin(StepRows& step, const kernels::Accumulate& accumulate) {
  const kernels::Exec& exec = step.exec();
  const int64_t dim = columns_.numel();
  float* const columns = columns_.data<float>();
  const Tensor sums = step.floats("factors.column_sums", dim);
  const Tensor totals = step.floats("factors.totals", 3);
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

  shape_ = step.floats("factors.shape", dim);
  kernels::sum_of_entries(exec, nullptr, dim, columns, whole);
  kernels::over_mean(exec, columns, whole, dim, shape_.data<float>());
  return kernels::FactoredState{rows_.data<float>(), shape_.data<float>(), false, kAsItIs};
}

std::vector<std::pair<std::string, Tensor>> RankOneMemory::tensors() const {
  return {{"rows", rows_}, {"columns", columns_}};
}

}  // namespace sketchgrad
