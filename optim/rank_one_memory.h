#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// The rank-one factorisation of least I-divergence (Lee & Seung 1999), in the form of Adafactor
// (Shazeer & Stern 2018, Algorithm 2): row means R_i, column sums C_c, x(i, c) = R_i C_c / mean(C).
// A step of all rows is Adafactor's:
//   R_i <- decay R_i + scale mean_c(u_ic),   C_c <- decay C_c + scale sum_i u_ic.
// In a row-sparse step the rows that are not active stay as they are, and so does what they
// contribute to the columns: with A the active rows,
//   C_c <- C_c (1 + (decay - 1) sum_{i in A} R_i / sum_i R_i) + scale sum_{i in A} u_ic,
// which keeps sum_c C_c = D sum_i R_i, so that both factors go on describing one matrix. O(K D) a
// step; the matrix is never made. (C is float: of a step that changes it by less than 6e-8 of
// itself, with few of very many rows active, nothing is kept.) For first moments, whose sums may
// vanish, it is the paper's poor baseline ("LR-NMF-M") and nothing more. Bytes: (rows + D) * 4.
class RankOneMemory final : public StateMemory {
 public:
  explicit RankOneMemory(const StateMemoryContext&);
  static int64_t planned_bytes(const StateMemoryContext&);

  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override;
  void end(StepRows&) override { abandon(); }
  void abandon() noexcept override { shape_ = {}; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override;

 private:
  Tensor rows_;     // [rows]: R
  Tensor columns_;  // [dim]: C
  Tensor shape_;    // [dim], during a step: C / mean(C)
};

}  // namespace sketchgrad
