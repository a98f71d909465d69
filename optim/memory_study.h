#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/framework/parameter.h"
#include "sketchgrad/optim/optimizer.h"

namespace sketchgrad {

// How far what a memory holds is from the exact state, over some rows of the table:
// absolute = |x' - x|, relative = |x' - x| / |x| (l2 norms; 0 where both are 0).
struct StateError {
  double absolute = 0;
  double relative = 0;

  // difference = |x' - x|, exact = |x|.
  static StateError of(double difference, double exact) {
    return {difference, difference == 0 ? 0.0 : difference / exact};
  }
};

struct MemoryErrors {
  StateError all;
  StateError heavy;  // rows [0, heavy_rows): the most frequent ones, where ids go by falling count
  StateError rare;   // the rest
  // Of a sketch, in the last step: active rows a bucket that has any, of the first depth.
  std::optional<double> mean_load;
  std::optional<int64_t> largest_load;
};

// Memories of one moment of one table that take in what an optimizer's would, beside the exact
// state: figures 2 and 3 of Spring et al. 2019. Nothing of them reaches a parameter. Takes the
// bytes of two tables and of the memories, and while it reads them of another three tables and a
// copy of the memory.
class MemoryStudy {
 public:
  // `table` [rows, ...] of `optimizer`, both of which must outlive it. Throws InvalidArgument where
  // the rule has no such moment, or a memory does not fit (make_memory).
  MemoryStudy(const Optimizer& optimizer, Parameter& table, MomentRole role,
              const std::vector<MemorySpec>& memories, int64_t heavy_rows);
  ~MemoryStudy();
  MemoryStudy(MemoryStudy&&) noexcept;

  // Takes in the table's gradient. To be called before each of the optimizer's steps.
  void step();
  // After at least one step, one entry a memory. The memories stay as they are, bit for bit.
  std::vector<MemoryErrors> errors();

  const std::vector<MemorySpec>& memories() const { return specs_; }
  int64_t bytes(size_t memory) const;

 private:
  void advance(StateMemory& memory, StepRows& rows, const kernels::Accumulate& accumulate,
               float weight, const Tensor& values);
  Tensor difference(StateMemory& memory, const Tensor& exact);

  const Optimizer& optimizer_;
  Parameter& table_;
  MomentRole role_;
  std::vector<MemorySpec> specs_;
  int64_t heavy_rows_;
  std::unique_ptr<StateMemory> exact_;
  std::vector<std::unique_ptr<StateMemory>> memories_;
  std::vector<std::pair<std::optional<double>, std::optional<int64_t>>> loads_;
  Tensor nothing_;  // parameters that a step leaves as they are
};

}  // namespace sketchgrad
