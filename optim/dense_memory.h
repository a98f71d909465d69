#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// One float an element: bytes = rows * dim * 4.
class DenseMemory final : public StateMemory {
 public:
  explicit DenseMemory(const StateMemoryContext&);

  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override;
  bool needs_rows() const override { return false; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override;

 private:
  Tensor state_;  // [rows, dim]
};

// The variable is the gradient itself, which is right for a first moment with decay 0 alone.
class NoMemory final : public StateMemory {
 public:
  explicit NoMemory(const StateMemoryContext&);

  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override {
    return kernels::NoState{};
  }
  bool needs_rows() const override { return false; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override { return {}; }
};

}  // namespace sketchgrad
