#pragma once

#include <string>

#include "sketchgrad/kernels/heavy_rows.h"
#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// The rows of a table that have a bucket of their own beside a sketch: those whose gradients had
// the most energy, sum of |g|^2 over the steps so far, chosen as they go by (kernels::HeavySets).
// Moments of a table that have as many choose the same ones: the first in a step chooses for all
// (StepRows::claims). Bytes: slots * 8.
class HeavyRows {
 public:
  // `slots`: a multiple of kernels::kSetWays, of which each holds one row.
  HeavyRows(const StateMemoryContext&, int64_t slots);
  static constexpr int64_t kBytesOfSlot = sizeof(int32_t) + sizeof(float);

  // Gives out the slots of a step, or takes over what another moment has given out. A step without
  // gradient changes nothing. `seed`: of the sketch's hashes, by which rows come to sets.
  const StepRows::SlotClaims& claim(StepRows&, uint64_t seed) const;
  // Throws DataError where the owners and weights that were read cannot be.
  void check_loaded(const std::string& source, uint64_t seed) const;
  std::vector<std::pair<std::string, Tensor>> tensors() const {
    return {{"owners", owners_}, {"weights", weights_}};
  }

 private:
  std::string name_;
  int64_t rows_;    // of the table
  Tensor owners_;   // int32 [sets, kSetWays]
  Tensor weights_;  // [sets, kSetWays]
};

}  // namespace sketchgrad
