#include "sketchgrad/optim/sketch_memory.h"

#include <algorithm>
#include <cmath>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {

namespace {

// Where the linear reading multiplies its pending decay into the cells, long before floats run out.
constexpr double kSmallestCellScale = 1e-12;

// Of checkpoints: which row lives in which cell, and what the cells of a reading hold. 2: rows are
// hashed by blocks, row_scaled keeps shapes.
constexpr int64_t kLayout = 2;

// The weights that x <- decay x + scale u has given to `steps` inputs, added up.
float mass_after(const kernels::Accumulate& accumulate, int64_t steps) {
  const double decay = accumulate.decay;
  const double count = static_cast<double>(steps);
  const double sum = decay == 1.0 ? count : (1.0 - std::pow(decay, count)) / (1.0 - decay);
  return static_cast<float>(accumulate.scale * sum);
}

// Buckets that rows come to together: a block, or one.
int64_t bucket_unit(const SketchGeometry& geometry) {
  const bool blocked = geometry.hash.band_rows == 0 && geometry.width >= kernels::kBlockedWidth;
  return blocked ? kernels::kHashBlock : 1;
}

}  // namespace

SketchGeometry SketchGeometry::fit(const StateMemoryContext& context, double ratio, int32_t depth,
                                   int64_t row_floats, const kernels::RowHash& hash) {
  const double rows = static_cast<double>(context.rows);
  const double dim = static_cast<double>(context.dim);
  const double bucket_floats = depth * dim;
  double width = std::floor((ratio * rows * dim - rows * row_floats) / bucket_floats);
  check(width >= 1.0,
        "[sketch] ratio {} of {} [{}, {}] leaves no bucket at depth {}; the smallest that works is "
        "{:.6f}",
        ratio, context.name, context.rows, context.dim, depth,
        (std::ceil((bucket_floats + rows * row_floats) / (rows * dim) * 1e6) + 1.0) / 1e6);
  if (hash.band_rows == 0 && width >= kernels::kBlockedWidth)
    width -= std::fmod(width, kernels::kHashBlock);
  return {depth, static_cast<int64_t>(width), hash};
}

SketchMemory::SketchMemory(const StateMemoryContext& context, SketchGeometry geometry,
                           Reading reading, int64_t row_floats)
    : name_(context.name), role_(context.role), geometry_(geometry), reading_(reading) {
  check(geometry.depth >= 1 && geometry.depth <= kernels::kMaxSketchDepth,
        "[sketch] depth {} of {} is outside 1 to {}", geometry.depth, name_,
        kernels::kMaxSketchDepth);
  check(geometry.width >= 1 && geometry.width < int64_t{kernels::kSlotSign},
        "[sketch] width {} of {} is outside 1 to 2^31 - 1", geometry.width, name_);
  // Its cells are divided by the decay.
  check(reading != Reading::linear || context.accumulate.decay > 0.0f,
        "[sketch] reading linear of {} needs a decay above 0; without decay the moment needs no "
        "memory",
        name_);
  dim_ = context.dim;
  device_ = context.device;
  allocate_cells();
  if (row_floats > 0) {
    row_state_ =
        Tensor::zeros({context.rows, row_floats}, {Category::optimizer_state, name_ + ".row_state"},
                      DType::float32, context.device);
  }
}

void SketchMemory::allocate_cells() {
  cells_ = Tensor::zeros({geometry_.depth, geometry_.width, dim_},
                         {Category::optimizer_state, name_ + ".cells"}, DType::float32, device_);
}

kernels::StateAccess SketchMemory::begin(StepRows& rows, const kernels::Accumulate& accumulate) {
  decay_ = accumulate.decay;
  const int64_t dim = cells_.shape()[2];
  return kernels::SketchState{
      {cells_.data<float>(), geometry_.depth, geometry_.width, dim, dim},
      &rows.plan(geometry_.hash, geometry_.depth, geometry_.width),
      choices(accumulate, rows.step()),
      row_state_.defined()
          ? kernels::contiguous(row_state_.data<float>(), row_state_.size(0), row_state_.size(1))
          : kernels::Matrix{}};
}

kernels::SketchStep SketchMemory::choices(const kernels::Accumulate& accumulate,
                                          int64_t step_number) const {
  const float decay = accumulate.decay;
  kernels::SketchStep step{
      .accumulate = accumulate,
      .combine = role_ == MomentRole::first ? kernels::Combine::median : kernels::Combine::minimum,
      .with_signs = role_ == MomentRole::first,
      .cell_scale = static_cast<float>(cell_scale_),
      .estimate_weight = decay - 1.0f,
      .input_weight = accumulate.scale,
      .clamp_at_zero = role_ == MomentRole::second,
      .mass = mass_after(accumulate, step_number),
      .previous_mass = mass_after(accumulate, step_number - 1)};
  switch (reading_) {
    case Reading::requery:
      step.requery = true;
      break;
    case Reading::own_delta:
      break;
    case Reading::mean_delta:
      step.mean = true;
      break;
    case Reading::bucket_local:
      step.estimate_weight = 0.0f;
      step.cell_decay = decay - 1.0f;
      break;
    case Reading::linear:
      step.estimate_weight = 0.0f;
      step.input_weight = static_cast<float>(accumulate.scale / (cell_scale_ * decay));
      break;
    case Reading::trusted:
      step.mean = true;
      step.rows = kernels::RowWeights::by_depths;
      break;
    case Reading::wiener:
      step.estimate_weight = 0.0f;
      step.cell_keep = decay;
      step.rows = kernels::RowWeights::by_power;
      break;
    case Reading::row_scaled:
      step.estimate_weight = 0.0f;
      step.cell_keep = decay;
      step.combine = kernels::Combine::mean;
      step.rows = kernels::RowWeights::by_scale;
      break;
    case Reading::automatic:
      break;  // resolved in the constructor
  }
  return step;
}

void SketchMemory::end(StepRows& rows) {
  if (reading_ != Reading::linear) return;
  cell_scale_ *= decay_;
  if (cell_scale_ < kSmallestCellScale) {
    kernels::scale(rows.exec(), cells_.data<float>(), static_cast<float>(cell_scale_),
                   cells_.data<float>(), cells_.numel());
    cell_scale_ = 1.0;
  }
}

std::vector<std::pair<std::string, Tensor>> SketchMemory::tensors() const {
  std::vector<std::pair<std::string, Tensor>> result{{"cells", cells_}};
  if (row_state_.defined()) result.push_back({"row_state", row_state_});
  return result;
}

void SketchMemory::save(StateDict& state, const std::string& prefix) const {
  state.set_integer(prefix + "layout", kLayout);
  state.set_integer(prefix + "depth", geometry_.depth);
  state.set_integer(prefix + "width", geometry_.width);
  state.set_unsigned(prefix + "hash_seed", geometry_.hash.seed);
  state.set_integer(prefix + "band_rows", geometry_.hash.band_rows);
  state.set(prefix + "reading", to_string(reading_));
  state.set_real(prefix + "cell_scale", cell_scale_);
}

void SketchMemory::load(const StateDict& state, const std::string& prefix) {
  const int64_t layout =
      state.metadata.contains(prefix + "layout") ? state.integer(prefix + "layout") : 1;
  check(layout == kLayout,
        "[sketch] {}: {} was written with layout {} of its cells, this version reads layout {}",
        name_, state.source, layout, kLayout);
  const SketchGeometry saved{
      static_cast<int32_t>(state.integer(prefix + "depth")),
      state.integer(prefix + "width"),
      {state.unsigned_integer(prefix + "hash_seed"), state.integer(prefix + "band_rows")}};
  const std::string& reading = state.text(prefix + "reading");
  check(saved.depth == geometry_.depth && reading == to_string(reading_) &&
            saved.hash.band_rows == geometry_.hash.band_rows,
        "[sketch] {}: {} holds depth {}, reading {}, bands of {} rows (0: hashed); this optimizer "
        "has depth {}, reading {}, bands of {}",
        name_, state.source, saved.depth, reading, saved.hash.band_rows, geometry_.depth,
        to_string(reading_), geometry_.hash.band_rows);
  std::optional<SketchGeometry> geometry = saved;
  while (geometry && geometry->width > geometry_.width) geometry = folded(*geometry);
  check(geometry && geometry->width == geometry_.width,
        "[sketch] {}: {} holds a width of {}, which folds to no width of {}, as this optimizer has",
        name_, state.source, saved.width, geometry_.width);
  const int64_t width = geometry_.width;
  geometry_ = saved;
  cell_scale_ = state.real(prefix + "cell_scale");
  if (saved.width != width) allocate_cells();
  StateMemory::load(state, prefix);
  while (geometry_.width > width) fold();
}

std::optional<SketchGeometry> folded(const SketchGeometry& geometry) {
  const int64_t unit = bucket_unit(geometry);
  const int64_t units = geometry.width / unit;
  const SketchGeometry half{geometry.depth, units / 2 * unit, geometry.hash};
  if (units % 2 != 0 || bucket_unit(half) != unit) return std::nullopt;
  return half;
}

bool SketchMemory::keeps_means() const {
  return reading_ == Reading::mean_delta || reading_ == Reading::trusted;
}

int64_t SketchMemory::fold() {
  const std::optional<SketchGeometry> half = folded(geometry_);
  if (!half) return 0;
  const int64_t unit = bucket_unit(geometry_), dim = cells_.size(2);
  // Which bucket each of the old ones goes to, of all depths; -1: those that no row has.
  std::vector<int32_t> goes_to(static_cast<size_t>(geometry_.depth * geometry_.width), -1);
  for (int64_t j = 0; j < geometry_.depth; ++j) {
    for (int64_t b = 0; b < 2 * half->width; ++b) {
      goes_to[static_cast<size_t>(j * geometry_.width + b)] =
          static_cast<int32_t>(j * half->width + b / unit / 2 * unit + b % unit);
    }
  }
  const auto count = static_cast<int64_t>(goes_to.size());
  const Device device = cells_.device();
  const kernels::Exec exec = cells_.exec();
  const auto indices = [&](int64_t size) {
    return Tensor::empty({size}, {Category::index, "sketch.fold"}, DType::int32, device);
  };
  const Tensor targets = Tensor::from(goes_to, {count}, {Category::index, "sketch.fold"}, device);
  const Tensor keys = indices(count), begin = indices(count + 1), order = indices(count);
  const int64_t buckets = half->depth * half->width;
  const kernels::Groups groups =
      kernels::group_by_key(exec, targets.data<int32_t>(), count, buckets, keys.data<int32_t>(),
                            begin.data<int32_t>(), order.data<int32_t>());
  const Tensor old = cells_;
  const int64_t before = cells_.bytes();
  geometry_ = *half;
  allocate_cells();
  // On a GPU there are as many groups as items, those behind the last one empty.
  const Tensor sums = groups.count == buckets
                          ? cells_
                          : Tensor::empty({groups.count, dim}, {Category::workspace, "sketch.fold"},
                                          DType::float32, device);
  kernels::sum_groups(exec, groups,
                      kernels::contiguous(static_cast<const float*>(old.data<float>()), count, dim),
                      kernels::contiguous(sums.data<float>(), groups.count, dim));
  float* const cells = cells_.data<float>();
  kernels::scale(exec, sums.data<float>(), keeps_means() ? 0.5f : 1.0f, cells, cells_.numel());
  return before - cells_.bytes();
}

// ---- Which reading, which geometry

namespace {

Reading resolve(Reading reading, Reading automatic, const std::vector<Reading>& refused,
                const std::string& name) {
  check(std::find(refused.begin(), refused.end(), reading) == refused.end(),
        "[sketch] reading {} is not for {}", to_string(reading), name);
  return reading == Reading::automatic ? automatic : reading;
}

// Floats that a reading keeps with a row.
int64_t row_floats(Reading reading, int64_t dim) {
  const bool any = reading == Reading::wiener || reading == Reading::row_scaled;
  return any ? kernels::sketch_pieces(dim) : 0;
}

// Where the floats of a row would take half of the bytes or more, they are left out.
template <class Spec>
bool is_narrow(const StateMemoryContext& context, const Spec& spec) {
  return spec.width == 0 && spec.ratio * static_cast<double>(context.dim) <
                                2.0 * static_cast<double>(kernels::sketch_pieces(context.dim));
}

Reading first_moment_reading(const StateMemoryContext& context, const CountSketch& spec) {
  const Reading automatic = is_narrow(context, spec) ? Reading::trusted : Reading::wiener;
  return resolve(spec.reading, automatic, {Reading::row_scaled}, context.name);
}

Reading second_moment_reading(const StateMemoryContext& context, const CountMin& spec) {
  const Reading automatic = is_narrow(context, spec) ? Reading::mean_delta : Reading::row_scaled;
  return resolve(spec.reading, automatic, {Reading::trusted, Reading::wiener}, context.name);
}

// Copies in several depths guard an estimate against heavy neighbours. Where the row knows its own
// scale or power it needs none, and one wide depth has the fewest collisions for the bytes.
template <class Spec>
SketchGeometry geometry_of(const StateMemoryContext& context, const Spec& spec, Reading reading) {
  const int64_t floats = row_floats(reading, context.dim);
  const int32_t depth = spec.depth > 0 ? spec.depth : (floats > 0 || spec.banded ? 1 : 3);
  const kernels::RowHash hash{context.hash_seed, spec.banded ? context.rows : 0};
  check(reading != Reading::trusted || depth >= 2,
        "[sketch] reading trusted of {} compares depths: depth {} must be at least 2", context.name,
        depth);
  if (spec.width > 0) return {depth, spec.width, hash};
  return SketchGeometry::fit(context, spec.ratio, depth, floats, hash);
}

template <class Spec>
int64_t bytes_of(const StateMemoryContext& context, const Spec& spec, Reading reading) {
  const SketchGeometry geometry = geometry_of(context, spec, reading);
  return (geometry.depth * geometry.width * context.dim +
          context.rows * row_floats(reading, context.dim)) *
         static_cast<int64_t>(sizeof(float));
}

}  // namespace

SketchGeometry planned_geometry(const StateMemoryContext& context, const CountSketch& spec) {
  return geometry_of(context, spec, first_moment_reading(context, spec));
}

SketchGeometry planned_geometry(const StateMemoryContext& context, const CountMin& spec) {
  return geometry_of(context, spec, second_moment_reading(context, spec));
}

int64_t planned_sketch_bytes(const StateMemoryContext& context, const CountSketch& spec) {
  return bytes_of(context, spec, first_moment_reading(context, spec));
}

int64_t planned_sketch_bytes(const StateMemoryContext& context, const CountMin& spec) {
  return bytes_of(context, spec, second_moment_reading(context, spec));
}

CountSketchMemory::CountSketchMemory(const StateMemoryContext& context, const CountSketch& spec)
    : CountSketchMemory(context, spec, first_moment_reading(context, spec)) {}

CountSketchMemory::CountSketchMemory(const StateMemoryContext& context, const CountSketch& spec,
                                     Reading reading)
    : SketchMemory(context, geometry_of(context, spec, reading), reading,
                   row_floats(reading, context.dim)) {}

CountMinMemory::CountMinMemory(const StateMemoryContext& context, const CountMin& spec)
    : CountMinMemory(context, spec, second_moment_reading(context, spec)) {}

CountMinMemory::CountMinMemory(const StateMemoryContext& context, const CountMin& spec,
                               Reading reading)
    : SketchMemory(context, geometry_of(context, spec, reading), reading,
                   row_floats(reading, context.dim)),
      cleaning_(spec.cleaning) {}

void CountMinMemory::end(StepRows& rows) {
  SketchMemory::end(rows);
  if (cleaning_.every == 0) return;
  // A table without active rows at the step itself is cleaned at its next one.
  for (const int64_t due = rows.step() / cleaning_.every; cleanings_ < due; ++cleanings_) {
    // What is kept with the rows as well: where it is their scale, cells alone would change
    // nothing.
    for (const auto& [name, tensor] : tensors()) {
      float* const data = tensor.data<float>();
      kernels::scale(rows.exec(), data, cleaning_.alpha, data, tensor.numel());
    }
  }
}

void CountMinMemory::save(StateDict& state, const std::string& prefix) const {
  SketchMemory::save(state, prefix);
  state.set_integer(prefix + "cleanings", cleanings_);
}

void CountMinMemory::load(const StateDict& state, const std::string& prefix) {
  SketchMemory::load(state, prefix);
  cleanings_ = state.integer(prefix + "cleanings");
}

}  // namespace sketchgrad
