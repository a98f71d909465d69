#include "sketchgrad/optim/state_memory.h"

#include <algorithm>

#include "sketchgrad/framework/memory_trace.h"
#include "sketchgrad/kernels/factors.h"
#include "sketchgrad/optim/bf16_memory.h"
#include "sketchgrad/optim/dense_memory.h"
#include "sketchgrad/optim/int8_memory.h"
#include "sketchgrad/optim/rank_one_l2_memory.h"
#include "sketchgrad/optim/rank_one_memory.h"
#include "sketchgrad/optim/row_wise_memory.h"
#include "sketchgrad/optim/sketch_memory.h"
#include "sketchgrad/optim/sm3_memory.h"

namespace sketchgrad {

namespace {

Tensor index_array(int64_t count, const char* name, Device device) {
  return Tensor::empty({count}, {Category::index, name}, DType::int32, device);
}

}  // namespace

const kernels::SketchPlan& StepRows::plan(const kernels::RowHash& hash, int32_t depth,
                                          int64_t width, const kernels::OwnBuckets& own) {
  Plan& entry = plans_[{hash.seed, hash.band_rows, hash.ranks, hash.made_width, hash.folds, depth,
                        width, own.count}];
  if (entry.arrays.empty()) {
    const int64_t cells = depth * count();
    Tensor slots = index_array(cells, "sketch.slots", device_);
    Tensor keys = index_array(cells, "sketch.keys", device_);
    Tensor order = index_array(cells, "sketch.order", device_);
    Tensor begin = index_array(cells + depth, "sketch.begin", device_);
    entry.plan =
        kernels::sketch_plan(exec_, hash, depth, width, own, ids_, count(),
                             {reinterpret_cast<kernels::Slot*>(slots.data<int32_t>()),
                              keys.data<int32_t>(), order.data<int32_t>(), begin.data<int32_t>()});
    entry.arrays = {slots, keys, order, begin};
  }
  return entry.plan;
}

Tensor StepRows::floats(const char* name, int64_t count) const {
  return Tensor::empty({count}, {Category::workspace, name}, DType::float32, device_);
}

const float* StepRows::decays_since(const Tensor& last_steps, float decay) {
  Tensor& decays = decays_[decay];
  if (!decays.defined()) {
    decays = floats("step.decays", count());
    kernels::decays_since(exec_, ids_, count(), last_steps.data<int32_t>(), step_, decay,
                          decays.data<float>());
  }
  return decays.data<float>();
}

const float* StepRows::row_sums(bool squared) {
  Tensor& sums = row_sums_[squared];
  if (!sums.defined()) {
    sums = floats("step.row_sums", count());
    kernels::row_sums(exec_, ids_, gradient_, squared, sums.data<float>());
    // A trace has no energies, but heavy rows must come to slots: those that come first, as all
    // weigh the same.
    if (MemoryTrace::active()) std::fill_n(sums.data<float>(), count(), 1.0f);
  }
  return sums.data<float>();
}

kernels::Matrix table_view(const Tensor& value) {
  return value.dim() == 1
             ? kernels::contiguous(value.data<float>(), value.numel(), 1)
             : kernels::contiguous(value.data<float>(), value.size(0),
                                   value.numel() / std::max<int64_t>(1, value.size(0)));
}

StateMemoryContext memory_context(const std::string& name, const Tensor& parameter, MomentRole role,
                                  const kernels::Accumulate& accumulate, uint64_t hash_seed) {
  const kernels::Matrix table = table_view(parameter);
  const Shape& shape = parameter.shape();
  return {.name = name,
          .role = role,
          .accumulate = accumulate,
          .rows = table.rows,
          .dim = table.cols,
          .hash_seed = hash_seed,
          .device = parameter.device(),
          .columns_shape = shape.size() > 2 ? Shape(shape.begin() + 1, shape.end()) : Shape()};
}

Tensor state_floats(const StateMemoryContext& context, const std::string& part, int64_t count) {
  return Tensor::zeros({count}, {Category::optimizer_state, context.name + "." + part},
                       DType::float32, context.device);
}

uint64_t rounding_seed(const StateMemoryContext& context) {
  return context.hash_seed ^ (context.role == MomentRole::first ? 0x1B0Fu : 0x2B0Fu);
}

kernels::RoundingKey rounding_key(uint64_t seed, int64_t step) {
  const kernels::Philox4 words = kernels::philox(seed, 0, static_cast<uint64_t>(step));
  return {uint64_t{words.v[0]} << 32 | words.v[1]};
}

void StateMemory::load(const StateDict& state, const std::string& prefix) {
  for (const auto& [part, tensor] : tensors()) state.copy_to(prefix + part, tensor);
}

int64_t StateMemory::bytes() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors()) total += tensor.bytes();
  return total;
}

namespace {

struct MakeMemory {
  const StateMemoryContext& context;
  std::unique_ptr<StateMemory> operator()(const Dense&) const {
    return std::make_unique<DenseMemory>(context);
  }
  std::unique_ptr<StateMemory> operator()(const None&) const {
    return std::make_unique<NoMemory>(context);
  }
  std::unique_ptr<StateMemory> operator()(const RowWise&) const {
    return std::make_unique<RowWiseMemory>(context);
  }
  std::unique_ptr<StateMemory> operator()(const RankOne&) const {
    return std::make_unique<RankOneMemory>(context);
  }
  std::unique_ptr<StateMemory> operator()(const RankOneL2&) const {
    return std::make_unique<RankOneL2Memory>(context);
  }
  std::unique_ptr<StateMemory> operator()(const Sm3Covers& spec) const {
    return std::make_unique<Sm3Memory>(context, spec);
  }
  std::unique_ptr<StateMemory> operator()(const Bf16&) const {
    return std::make_unique<Bf16Memory>(context);
  }
  std::unique_ptr<StateMemory> operator()(const Int8&) const {
    return std::make_unique<Int8Memory>(context);
  }
  std::unique_ptr<StateMemory> operator()(const CountSketch& spec) const {
    check(context.role == MomentRole::first,
          "[sketch] a signed count-sketch can turn negative and cannot be the second moment {}; "
          "use a count-min sketch",
          context.name);
    return std::make_unique<CountSketchMemory>(context, spec);
  }
  std::unique_ptr<StateMemory> operator()(const CountMin& spec) const {
    check(context.role == MomentRole::second,
          "[sketch] a count-min sketch holds non-negative values and cannot be the first moment {}",
          context.name);
    return std::make_unique<CountMinMemory>(context, spec);
  }
};

struct PlanBytes {
  const StateMemoryContext& context;
  int64_t operator()(const Dense&) const {
    return context.rows * context.dim * static_cast<int64_t>(sizeof(float));
  }
  int64_t operator()(const None&) const { return 0; }
  int64_t operator()(const RowWise&) const { return RowWiseMemory::planned_bytes(context); }
  int64_t operator()(const RankOne&) const { return RankOneMemory::planned_bytes(context); }
  int64_t operator()(const RankOneL2&) const { return RankOneL2Memory::planned_bytes(context); }
  int64_t operator()(const Sm3Covers&) const { return Sm3Memory::planned_bytes(context); }
  int64_t operator()(const Bf16&) const { return Bf16Memory::planned_bytes(context); }
  int64_t operator()(const Int8&) const { return Int8Memory::planned_bytes(context); }
  template <class Sketch>
  int64_t operator()(const Sketch& spec) const {
    return planned_sketch_bytes(context, spec);
  }
};

}  // namespace

int64_t planned_bytes(const MemorySpec& spec, const StateMemoryContext& context) {
  return std::visit(PlanBytes{context}, spec);
}

std::unique_ptr<StateMemory> make_memory(const MemorySpec& spec,
                                         const StateMemoryContext& context) {
  return std::visit(MakeMemory{context}, spec);
}

}  // namespace sketchgrad
