#include "sketchgrad/optim/state_memory.h"

#include <algorithm>

#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/optim/dense_memory.h"
#include "sketchgrad/optim/sketch_memory.h"

namespace sketchgrad {

namespace {

// Columns of a tile. Wide tiles are faster, since each tile visits the rows and their buckets anew.
// Few rows get them; where all rows are active, a tile is a part of the table, and must stay a
// small one. Either way it has enough columns to measure a row's noise on.
constexpr int64_t kTileColumnsOfSomeRows = 256;
constexpr int64_t kTileColumnsOfAllRows = 64;

constexpr int64_t kTileAlignment = 8;

Tensor int32_workspace(int64_t count, const char* name, Device device) {
  return Tensor::empty({count}, {Category::workspace, name}, DType::int32, device);
}

}  // namespace

// Tiles of equal width, as far as alignment allows, so that none is left with a few columns.
int64_t StepRows::tile_columns() const {
  const int64_t dim = gradient_.cols;
  const int64_t widest = ids_ != nullptr ? kTileColumnsOfSomeRows : kTileColumnsOfAllRows;
  const int64_t tiles = (dim + widest - 1) / widest;
  const int64_t columns = (dim + tiles - 1) / tiles;
  return std::min(dim, (columns + kTileAlignment - 1) / kTileAlignment * kTileAlignment);
}

const kernels::SketchPlan& StepRows::plan(uint64_t seed, int32_t depth, int64_t width) {
  Plan& entry = plans_[{seed, depth, width}];
  if (entry.arrays.empty()) {
    const int64_t cells = depth * count();
    Tensor slots = int32_workspace(cells, "sketch.slots", device_);
    Tensor keys = int32_workspace(cells, "sketch.keys", device_);
    Tensor order = int32_workspace(cells, "sketch.order", device_);
    Tensor begin = int32_workspace(cells + depth, "sketch.begin", device_);
    entry.plan =
        kernels::sketch_plan(exec_, seed, depth, width, ids_, count(),
                             {reinterpret_cast<kernels::Slot*>(slots.data<int32_t>()),
                              keys.data<int32_t>(), order.data<int32_t>(), begin.data<int32_t>()});
    entry.arrays = {slots, keys, order, begin};
  }
  return entry.plan;
}

const float* StepRows::row_mean_squares() {
  if (!row_mean_squares_.defined()) {
    row_mean_squares_ = Tensor::empty({count()}, {Category::workspace, "sketch.row_mean_squares"},
                                      DType::float32, device_);
    kernels::row_mean_squares(exec_, gradient_, row_mean_squares_.data<float>());
  }
  return row_mean_squares_.data<float>();
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
    return std::make_unique<NoMemory>();
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

}  // namespace

std::unique_ptr<StateMemory> make_memory(const MemorySpec& spec,
                                         const StateMemoryContext& context) {
  return std::visit(MakeMemory{context}, spec);
}

}  // namespace sketchgrad
