#pragma once

#include "sketchgrad/kernels/factors.h"
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
