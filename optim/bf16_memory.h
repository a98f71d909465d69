#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// bfloat16, rounded stochastically: what a step adds is kept in the mean however small it is beside
// the whole. Rounding draws bits by (seed of the table, moment, step, row, column): the same in
// every run. Bytes: rows * dim * 2.
class Bf16Memory final : public StateMemory {
 public:
  explicit Bf16Memory(const StateMemoryContext&);
  static int64_t planned_bytes(const StateMemoryContext&);

  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override;
  bool needs_rows() const override { return false; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override;

 private:
  uint64_t seed_;
  Tensor state_;  // bfloat16 [rows, dim]
};

}  // namespace sketchgrad
