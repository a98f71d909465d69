#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// Eight bits and a scale for each piece of a row (kernels::sketch_pieces: of about 64 columns, at
// most four up to 2048), rounded stochastically as Bf16Memory does. Bytes: rows * (dim + 4 *
// pieces), which for one column is more than dense state.
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
