#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// One float a row: the mean of x over the row's columns, which is what every element of the row
// gets. For second moments (row-wise Adagrad; the partial row-wise Adam of FBGEMM). Exact for rows
// whose elements are alike. Bytes: rows * 4.
class RowWiseMemory final : public StateMemory {
 public:
  explicit RowWiseMemory(const StateMemoryContext&);
  static int64_t planned_bytes(const StateMemoryContext&);

  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override;
  std::vector<std::pair<std::string, Tensor>> tensors() const override;

 private:
  Tensor rows_;  // [rows]
};

// rows[id] <- decay rows[id] + scale mean of the entry's inputs; sums [K]: StepRows::row_sums.
void advance_row_means(const StepRows& step, const kernels::Accumulate& accumulate,
                       const float* sums, const Tensor& rows);

}  // namespace sketchgrad
