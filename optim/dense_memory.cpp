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

NoMemory::NoMemory(const StateMemoryContext& context) {
  check(context.role == MomentRole::first && context.accumulate.decay == 0.0f,
        "[none] {} cannot be none: the rule keeps it with decay {} (only a first moment with decay "
        "0, beta1 = 0, needs no memory)",
        context.name, context.accumulate.decay);
}

}  // namespace sketchgrad
