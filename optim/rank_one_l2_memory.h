#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// The rank-one approximation of least squared error, kept from step to step: the "l2 rank-one" that
// Spring et al. 2019 compare with. For study: a first moment may have any signs, but of what is not
// near to rank one little is kept. x = u v^T with |v| = 1. A step makes, with A the active rows,
//   M_i = decay u_i v + scale input_i for i in A, u_i v for the others,
// whose rows A the rule reads, and replaces it by its projection after one iteration of the power
// method (Golub & Van Loan, Matrix Computations), begun at v:
//   p = M v,  v <- M^T p / |M^T p|,  u <- M v.
// With M near to what it was a step before, as an average is, one iteration a step follows its
// first singular vectors. M is never made: O(K D + rows) a step. Of the rows that are not active, u
// turns with v to what is nearest to their old state, which therefore moves.
//
// v begins as random numbers drawn by the table's hash seed. For second moments they are positive,
// and with them u, v and all that the rule reads can only be sums of products that are not
// negative: no clamp is needed, and the first singular vectors of such a matrix are of this kind
// (Perron & Frobenius). Where M v = 0, as for M = 0, v stays and u is 0: a matrix all of whose rows
// are orthogonal to v is lost. Bytes: (rows + D) * 4.
class RankOneL2Memory final : public StateMemory {
 public:
  explicit RankOneL2Memory(const StateMemoryContext&);
  static int64_t planned_bytes(const StateMemoryContext&);

  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override;
  void end(StepRows&) override;
  std::vector<std::pair<std::string, Tensor>> tensors() const override;

 private:
  Tensor left_;                     // [rows]: u
  Tensor right_;                    // [dim]: v
  kernels::Accumulate accumulate_;  // of the step that has begun
};

}  // namespace sketchgrad
