#include "sketchgrad/optim/dense_memory.h"

namespace sketchgrad {

DenseMemory::DenseMemory(const StateMemoryContext& context)
    : state_(Tensor::zeros({context.rows, context.dim}, {Category::optimizer_state, context.name},
                           DType::float32, context.device)) {}

kernels::StateAccess DenseMemory::begin(StepRows& rows, const kernels::Accumulate& accumulate) {
  const int64_t dim = rows.gradient().cols;
  return kernels::DenseState{kernels::contiguous(state_.data<float>(), state_.numel() / dim, dim),
                             accumulate};
}

std::vector<std::pair<std::string, Tensor>> DenseMemory::tensors() const {
  return {{"dense", state_}};
}

}  // namespace sketchgrad
