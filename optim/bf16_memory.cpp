#include "sketchgrad/optim/bf16_memory.h"

namespace sketchgrad {

Bf16Memory::Bf16Memory(const StateMemoryContext& context)
    : seed_(rounding_seed(context)),
      state_(Tensor::zeros({context.rows, context.dim},
                           {Category::optimizer_state, context.name + ".bf16"}, DType::bfloat16,
                           context.device)) {}

int64_t Bf16Memory::planned_bytes(const StateMemoryContext& context) {
  return context.rows * context.dim * size_of(DType::bfloat16);
}

kernels::StateAccess Bf16Memory::begin(StepRows& step, const kernels::Accumulate& accumulate) {
  const int64_t dim = step.gradient().cols;
  return kernels::Bf16State{kernels::contiguous(state_.data<uint16_t>(), state_.numel() / dim, dim),
                            accumulate, rounding_key(seed_, step.step())};
}

std::vector<std::pair<std::string, Tensor>> Bf16Memory::tensors() const {
  return {{"bf16", state_}};
}

}  // namespace sketchgrad
