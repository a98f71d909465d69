#pragma once

#include "sketchgrad/kernels/factors.h"
#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// SM3 (Anil et al. 2019): a bound for each row and for each column of a matrix, or for each index
// of each axis of a tensor [rows, n1, n2, ...]; an element's second moment is the least of the
// bounds that cover it.
//   SM3-I:  mu(r) <- decay mu(r) + scale max_{j in r} g_j^2,   v_j = min_{r covers j} mu(r)
//   SM3-II: v_j = decay min_{r covers j} mu(r) + scale g_j^2,  mu(r) <- max_{j in r} v_j
// with decay = scale = 1 in the paper. In a row-sparse step rows that are not active keep their
// bounds, and bounds of columns do not fall, since they cover those rows as well.
// Bytes: (rows + n1 + n2 + ...) * 4.
class Sm3Memory final : public StateMemory {
 public:
  Sm3Memory(const StateMemoryContext&, const Sm3Covers&);
  static int64_t planned_bytes(const StateMemoryContext&);

  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override;
  void end(StepRows&) override;
  void abandon() noexcept override { column_cover_ = row_maxima_ = column_maxima_ = {}; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override;
  void save(StateDict&, const std::string& prefix) const override;
  void load(const StateDict&, const std::string& prefix) override;

 private:
  struct Axis {
    kernels::ColumnAxis columns;
    Tensor cover;  // [size]
  };
  void raise_axes(StepRows&, float decay, float scale, const Tensor& column_maxima);
  Tensor column_cover(const StepRows&) const;

  std::string name_;
  int variant_;
  int64_t dim_;
  Tensor rows_;             // [rows]
  std::vector<Axis> axes_;  // all but the first
  // During a step: the least bound over the axes of each column, and for SM3-II what the bounds are
  // to become.
  Tensor column_cover_;   // [dim]
  Tensor row_maxima_;     // [K]
  Tensor column_maxima_;  // [dim]
};

}  // namespace sketchgrad
