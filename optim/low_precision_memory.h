#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// One element each in fewer bits, rounded stochastically: what a step adds is kept in the mean
// however small it is beside the whole. Rounding draws bits by (seed of the table, moment, step,
// row, column): the same in every run.

// bfloat16. Bytes: rows * dim * 2.
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

// Eight bits and a scale for each piece of a row (kernels::sketch_pieces: of about 64 columns, at
// most four up to 2048). Bytes: rows * (dim + 4 * pieces), which for one column is more than dense
// state.
class Int8Memory final : public StateMemory {
 public:
  explicit Int8Memory(const StateMemoryContext&);
  static int64_t planned_bytes(const StateMemoryContext&);

  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override;
  std::vector<std::pair<std::string, Tensor>> tensors() const override;
  void save(StateDict&, const std::string& prefix) const override;
  void load(const StateDict&, const std::string& prefix) override;

 private:
  std::string name_;
  uint64_t seed_;
  bool with_signs_;
  Tensor codes_;   // uint8 [rows, dim]
  Tensor scales_;  // [rows, pieces]
};

}  // namespace sketchgrad
