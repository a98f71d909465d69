#include "sketchgrad/optim/int8_memory.h"

namespace sketchgrad {

namespace {

// Of checkpoints: what codes mean. 2: floats less the one of code 0.
constexpr int64_t kLayout = 2;

}  // namespace

Int8Memory::Int8Memory(const StateMemoryContext& context)
    : name_(context.name),
      seed_(rounding_seed(context)),
      with_signs_(context.role == MomentRole::first),
      codes_(Tensor::zeros({context.rows, context.dim},
                           {Category::optimizer_state, context.name + ".codes"}, DType::uint8,
                           context.device)),
      scales_(Tensor::zeros({context.rows, kernels::sketch_pieces(context.dim)},
                            {Category::optimizer_state, context.name + ".scales"}, DType::float32,
                            context.device)) {}

int64_t Int8Memory::planned_bytes(const StateMemoryContext& context) {
  return context.rows * (context.dim * size_of(DType::uint8) +
                         kernels::sketch_pieces(context.dim) * size_of(DType::float32));
}

kernels::StateAccess Int8Memory::begin(StepRows& step, const kernels::Accumulate& accumulate) {
  return kernels::BlockState{
      kernels::contiguous(codes_.data<uint8_t>(), codes_.size(0), codes_.size(1)),
      kernels::contiguous(scales_.data<float>(), scales_.size(0), scales_.size(1)), with_signs_,
      accumulate, rounding_key(seed_, step.step())};
}

std::vector<std::pair<std::string, Tensor>> Int8Memory::tensors() const {
  return {{"codes", codes_}, {"scales", scales_}};
}

void Int8Memory::save(StateDict& state, const std::string& prefix) const {
  state.set_integer(prefix + "layout", kLayout);
}

void Int8Memory::load(const StateDict& state, const std::string& prefix) {
  const int64_t layout =
      state.metadata.contains(prefix + "layout") ? state.integer(prefix + "layout") : 1;
  check(layout == kLayout,
        "[int8] {}: {} was written with layout {} of its codes, this version reads layout {}",
        name_, state.source, layout, kLayout);
  StateMemory::load(state, prefix);
}

}  // namespace sketchgrad
