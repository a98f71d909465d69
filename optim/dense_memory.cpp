#include "sketchgrad/optim/dense_memory.h"

namespace sketchgrad {

DenseMemory::DenseMemory(const StateMemoryContext& context)
    : state_(Tensor::zeros({context.rows, context.dim}, {Category::optimizer_state, context.name},
                           DType::float32, context.device)) {}

void DenseMemory::begin(StepRows&, const kernels::Accumulate& accumulate) {
  accumulate_ = accumulate;
}

kernels::StateAccess DenseMemory::advance(StepRows& rows, int64_t begin, int64_t count) {
  const int64_t dim = rows.gradient().cols;
  const kernels::Matrix state =
      kernels::contiguous(state_.data<float>(), state_.numel() / dim, dim);
  return kernels::DenseState{state.columns(begin, count), accumulate_};
}

std::vector<std::pair<std::string, Tensor>> DenseMemory::tensors() const {
  return {{"dense", state_}};
}

}  // namespace sketchgrad
