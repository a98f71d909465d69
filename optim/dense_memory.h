#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// One float an element: bytes = rows * dim * 4.
class DenseMemory final : public StateMemory {
 public:
  explicit DenseMemory(const StateMemoryContext&);

  void begin(StepRows&, const kernels::Accumulate&) override;
  kernels::StateAccess advance(StepRows&, int64_t begin, int64_t count) override;
  std::vector<std::pair<std::string, Tensor>> tensors() const override;

 private:
  Tensor state_;  // [rows, dim]
  kernels::Accumulate accumulate_;
};

// The variable is the gradient itself.
class NoMemory final : public StateMemory {
 public:
  void begin(StepRows&, const kernels::Accumulate&) override {}
  kernels::StateAccess advance(StepRows&, int64_t, int64_t) override { return kernels::NoState{}; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override { return {}; }
};

}  // namespace sketchgrad
