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
  return int64_t{1} << geometry.hash.unit_bits(geometry.width);
}

std::string folded_from(const SketchGeometry& geometry) {
  if (geometry.hash.folds == 0) return {};
  return fmt::format(", {} folded {} times", geometry.hash.made_width, geometry.hash.folds);
}

bool folds_to(SketchGeometry geometry, const SketchGeometry& other) {
  while (geometry.width > other.width) {
    const std::optional<SketchGeometry> half = geometry.folded();
    if (!half) return false;
    geometry = *half;
  }
  return geometry.width == other.width && geometry.hash.made_width == other.hash.made_width &&
         geometry.hash.folds == other.hash.folds;
}

}  // namespace

SketchGeometry SketchGeometry::fit(const StateMemoryContext& context, double ratio, double exact,
                                   int32_t depth, int64_t row_floats, int64_t cell_bytes,
                                   const kernels::RowHash& hash) {
  const double rows = static_cast<double>(context.rows);
  const double dim = static_cast<double>(context.dim);
  const double bucket_floats = depth * dim * static_cast<double>(cell_bytes) / sizeof(float);
  const double set_floats = kernels::kSetWays * (dim + HeavyRows::kBytesOfSlot / sizeof(float));
  const double floats = ratio * rows * dim - rows * static_cast<double>(row_floats);
  // One bucket is left for the other rows.
  const double sets =
      std::max(0.0, std::floor(std::min(exact * floats, floats - bucket_floats) / set_floats));
  double width = std::floor((floats - sets * set_floats) / bucket_floats);
  const double least =
      exact > 0.0 ? std::max(set_floats / exact, set_floats + bucket_floats) : bucket_floats;
  check(width >= 1.0 && (exact == 0.0 || sets >= 1.0),
        "[sketch] ratio {} of {} [{}, {}] leaves no bucket at depth {}{}; the smallest that works "
        "is {:.6f}",
        ratio, context.name, context.rows, context.dim, depth,
        exact > 0.0 ? fmt::format(" or not {} exact rows", kernels::kSetWays) : "",
        (std::ceil((least + rows * static_cast<double>(row_floats)) / (rows * dim) * 1e6) + 1.0) /
            1e6);
  if (hash.band_rows == 0 && width >= kernels::kBlockedWidth)
    width -= std::fmod(width, kernels::kHashBlock);
  return {depth, static_cast<int64_t>(width), hash, static_cast<int64_t>(sets) * kernels::kSetWays,
          cell_bytes};
}

int64_t SketchGeometry::bytes(int64_t dim) const {
  return depth * buckets() * dim * cell_bytes + heavy_rows * HeavyRows::kBytesOfSlot;
}

SketchMemory::SketchMemory(const StateMemoryContext& context, SketchGeometry geometry,
                           Reading reading, int64_t row_floats)
    : name_(context.name), role_(context.role), geometry_(geometry), reading_(reading) {
  check(geometry.depth >= 1 && geometry.depth <= kernels::kMaxSketchDepth,
        "[sketch] depth {} of {} is outside 1 to {}", geometry.depth, name_,
        kernels::kMaxSketchDepth);
  check(geometry.width >= 1 && geometry.buckets() < int64_t{kernels::kSlotSign},
        "[sketch] {} buckets a depth of {} are outside 1 to 2^31 - 1", geometry.buckets(), name_);
  check(!context.decays_skipped || (reading != Reading::linear && reading != Reading::bucket_local),
        "[sketch] reading {} of {} cannot decay by the steps that left a row out: {}",
        to_string(reading), name_,
        reading == Reading::linear ? "it decays all rows in every step"
                                   : "the rows of a bucket decay by one factor");
  // Its cells are divided by the decay.
  check(reading != Reading::linear || context.accumulate.decay > 0.0f,
        "[sketch] reading linear of {} needs a decay above 0; without decay the moment needs no "
        "memory",
        name_);
  if (geometry.hash.ranks != nullptr) row_ranks_ = context.row_ranks;
  dim_ = context.dim;
  device_ = context.device;
  rounding_seed_ = rounding_seed(context);
  cells_ = make_cells(geometry_);
  if (row_floats > 0) {
    row_state_ =
        Tensor::zeros({context.rows, row_floats}, {Category::optimizer_state, name_ + ".row_state"},
                      DType::float32, context.device);
  }
  if (geometry.heavy_rows > 0) heavy_.emplace(context, geometry.heavy_rows);
}

Tensor SketchMemory::make_cells(const SketchGeometry& geometry) const {
  return Tensor::zeros({geometry.depth, geometry.buckets(), dim_},
                       {Category::optimizer_state, name_ + ".cells"},
                       geometry.cell_bytes == 2 ? DType::bfloat16 : DType::float32, device_);
}

// Without the buckets of heavy rows, which lie behind the others.
kernels::SketchView SketchMemory::shared_cells(const Tensor& cells, const SketchGeometry& geometry,
                                               int64_t step) const {
  kernels::SketchView result{
      .depth = geometry.depth, .width = geometry.width, .dim = dim_, .stride = dim_};
  if (cells.dtype() == DType::bfloat16) {
    result.bf16 = cells.data<uint16_t>();
    result.rounding = rounding_key(rounding_seed_, step);
  } else {
    result.cells = cells.data<float>();
  }
  return result;
}

kernels::StateAccess SketchMemory::begin(StepRows& rows, const kernels::Accumulate& accumulate) {
  decay_ = accumulate.decay;
  const kernels::SketchStep step = choices(accumulate, rows.step());
  if (heavy_) {
    kernels::move_to_slots(rows.exec(), shared_cells(cells_, geometry_, rows.step()),
                           geometry_.hash, step, row_state(), rows.ids(), rows.count(),
                           heavy_->claim(rows, geometry_.hash.seed).view());
  }
  return access(rows, step, row_state());
}

kernels::SketchState SketchMemory::access(StepRows& rows, const kernels::SketchStep& step,
                                          kernels::Matrix row_state) const {
  kernels::OwnBuckets own{geometry_.heavy_rows, nullptr};
  if (heavy_) {
    own.slots = rows.claims(geometry_.hash.seed, geometry_.heavy_rows).slots.data<int32_t>();
  }
  return {all_cells(rows.step()), &rows.plan(geometry_.hash, geometry_.depth, geometry_.width, own),
          step, row_state, own.count};
}

kernels::SketchView SketchMemory::all_cells(int64_t step) const {
  kernels::SketchView result = shared_cells(cells_, geometry_, step);
  result.width = geometry_.buckets();
  return result;
}

kernels::Matrix SketchMemory::row_state() const {
  if (!row_state_.defined()) return {};
  return kernels::contiguous(row_state_.data<float>(), row_state_.size(0), row_state_.size(1));
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

void SketchMemory::read(const int32_t* ids, kernels::Matrix values) const {
  const int64_t count = values.rows;
  const kernels::Exec exec = cells_.exec();
  const Tensor gradient = Tensor::zeros({count, dim_}, {Category::workspace, "sketch.gradient"},
                                        DType::float32, device_);
  StepRows rows(exec, device_, ids, kernels::contiguous(gradient.data<float>(), count, dim_),
                /*step=*/1);
  // What is kept with rows is copied: the step below numbers its rows from 0.
  Tensor row_state;
  kernels::Matrix state;
  if (row_state_.defined()) {
    const int64_t floats = row_state_.size(1);
    row_state = Tensor::empty({count, floats}, {Category::workspace, "sketch.row_state"},
                              DType::float32, device_);
    state = kernels::contiguous(row_state.data<float>(), count, floats);
    kernels::gather_rows(exec, row_state_.matrix(), ids, /*padding_id=*/-1, state);
  }
  const kernels::Accumulate nothing{1.0f, 0.0f, role_ == MomentRole::second};
  if (heavy_) heavy_->claim(rows, geometry_.hash.seed);
  kernels::update_rows(exec, kernels::MomentumRule{-1.0f, 0.0f, 1.0f},
                       access(rows, choices(nothing, rows.step()), state), kernels::NoState{},
                       nullptr, rows.gradient(), values);
}

void SketchMemory::end(StepRows& rows) {
  if (reading_ != Reading::linear) return;
  cell_scale_ *= decay_;
  if (cell_scale_ < kSmallestCellScale) {
    kernels::scale_sketch(rows.exec(), all_cells(rows.step()), static_cast<float>(cell_scale_));
    cell_scale_ = 1.0;
  }
}

std::vector<std::pair<std::string, Tensor>> SketchMemory::tensors() const {
  std::vector<std::pair<std::string, Tensor>> result{{"cells", cells_}};
  if (row_state_.defined()) result.push_back({"row_state", row_state_});
  if (heavy_) {
    for (const auto& part : heavy_->tensors()) result.push_back(part);
  }
  return result;
}

// What is kept with the rows as well: where it is their scale, cells alone would change nothing.
void SketchMemory::scale_estimates(const StepRows& rows, float factor) {
  kernels::scale_sketch(rows.exec(), all_cells(rows.step()), factor);
  if (!row_state_.defined()) return;
  float* const data = row_state_.data<float>();
  kernels::scale(rows.exec(), data, factor, data, row_state_.numel());
}

void SketchMemory::save(StateDict& state, const std::string& prefix) const {
  state.set_integer(prefix + "layout", kLayout);
  state.set_integer(prefix + "depth", geometry_.depth);
  state.set_integer(prefix + "width", geometry_.width);
  state.set_integer(prefix + "heavy_rows", geometry_.heavy_rows);
  state.set_integer(prefix + "cell_bytes", geometry_.cell_bytes);
  state.set_unsigned(prefix + "hash_seed", geometry_.hash.seed);
  state.set_integer(prefix + "band_rows", geometry_.hash.band_rows);
  state.set_integer(prefix + "made_width", geometry_.hash.made_width);
  state.set_integer(prefix + "folds", geometry_.hash.folds);
  state.set(prefix + "reading", to_string(reading_));
  state.set_real(prefix + "cell_scale", cell_scale_);
}

// Where one of the geometries folds to the other, the narrower one.
void SketchMemory::load(const StateDict& state, const std::string& prefix) {
  const auto integer = [&](const char* key, int64_t otherwise) {
    return state.metadata.contains(prefix + key) ? state.integer(prefix + key) : otherwise;
  };
  const int64_t layout = integer("layout", 1);
  check(layout == kLayout,
        "[sketch] {}: {} was written with layout {} of its cells, this version reads layout {}",
        name_, state.source, layout, kLayout);
  const int64_t depth = state.integer(prefix + "depth"), width = state.integer(prefix + "width");
  const int64_t band_rows = integer("band_rows", 0);
  const int64_t heavy_rows = integer("heavy_rows", 0);
  check(heavy_rows == geometry_.heavy_rows,
        "[sketch] {}: {} holds {} exact rows, this optimizer has {}", name_, state.source,
        heavy_rows, geometry_.heavy_rows);
  const int64_t cell_bytes = integer("cell_bytes", size_of(DType::float32));
  check(cell_bytes == geometry_.cell_bytes,
        "[sketch] {}: {} holds cells of {} bytes, this optimizer has {}", name_, state.source,
        cell_bytes, geometry_.cell_bytes);
  const std::string& reading = state.text(prefix + "reading");
  check(depth == geometry_.depth && reading == to_string(reading_) &&
            band_rows == geometry_.hash.band_rows,
        "[sketch] {}: {} holds depth {}, reading {}, bands of {} rows (0: hashed); this optimizer "
        "has depth {}, reading {}, bands of {}",
        name_, state.source, depth, reading, band_rows, geometry_.depth, to_string(reading_),
        geometry_.hash.band_rows);
  const int64_t folds = integer("folds", 0);
  check(folds >= 0 && folds < 32, "[sketch] {}: {} says that its sketch was folded {} times", name_,
        state.source, folds);
  SketchGeometry saved = geometry_;
  saved.width = width;
  saved.hash.seed = state.unsigned_integer(prefix + "hash_seed");
  saved.hash.made_width = integer("made_width", 0);
  saved.hash.folds = static_cast<int32_t>(folds);
  check(folds_to(saved, geometry_) || folds_to(geometry_, saved),
        "[sketch] {}: {} holds a width of {}{}, this optimizer has {}{}, and neither folds to the "
        "other",
        name_, state.source, width, folded_from(saved), geometry_.width, folded_from(geometry_));
  const int64_t narrower = std::min(width, geometry_.width);
  const double cell_scale = state.real(prefix + "cell_scale");
  if (width != geometry_.width) cells_ = make_cells(saved);
  geometry_ = saved;
  cell_scale_ = cell_scale;
  StateMemory::load(state, prefix);
  if (heavy_) heavy_->check_loaded(state.source, geometry_.hash.seed);
  while (geometry_.width > narrower) fold();
}

std::optional<SketchGeometry> SketchGeometry::folded() const {
  const int64_t unit = bucket_unit(*this), units = width / unit;
  if (units < 2) return std::nullopt;
  SketchGeometry half = *this;
  half.width = (units + 1) / 2 * unit;
  if (hash.folds > 0 || units % 2 != 0 || bucket_unit(half) != unit) {
    if (hash.folds == 0) half.hash.made_width = width;
    ++half.hash.folds;
  }
  return half;
}

bool SketchMemory::keeps_means() const {
  return reading_ == Reading::mean_delta || reading_ == Reading::trusted;
}

int64_t SketchMemory::foldable_bytes() const {
  const std::optional<SketchGeometry> half = geometry_.folded();
  return half ? geometry_.bytes(dim_) - half->bytes(dim_) : 0;
}

int64_t SketchMemory::fold() {
  const std::optional<SketchGeometry> half = geometry_.folded();
  if (!half) return 0;
  const int64_t freed = foldable_bytes();
  const Tensor cells = make_cells(*half);  // what throws leaves all as it was
  kernels::fold_sketch(cells_.exec(), shared_cells(cells_, geometry_, 0), bucket_unit(geometry_),
                       keeps_means() ? 0.5f : 1.0f, shared_cells(cells, *half, 0));
  if (heavy_) {
    kernels::copy(cells_.exec(), cells_.data<float>() + geometry_.width * dim_,
                  cells.data<float>() + half->width * dim_, geometry_.heavy_rows * dim_);
  }
  cells_ = cells;
  geometry_ = *half;
  return freed;
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
  return spec.width == 0 && spec.exact == 0.0 &&
         spec.ratio * static_cast<double>(context.dim) <
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

bool cleans(const CountSketch&) { return false; }
bool cleans(const CountMin& spec) { return spec.cleaning.every > 0; }

// Copies in several depths guard an estimate against heavy neighbours. Where the row knows its own
// scale or power it needs none, and one wide depth has the fewest collisions for the bytes.
template <class Spec>
SketchGeometry geometry_of(const StateMemoryContext& context, const Spec& spec, Reading reading) {
  const int64_t floats = row_floats(reading, context.dim);
  // What `trusted` compares are the signs of bands.
  const bool bands = spec.banded && reading != Reading::trusted;
  const bool one = floats > 0 || bands || spec.exact > 0.0;
  const int32_t depth = spec.depth > 0 ? spec.depth : (one ? 1 : 3);
  kernels::RowHash hash{context.hash_seed};
  if (spec.banded) {
    hash.band_rows = context.rows;
    if (context.row_ranks.defined()) hash.ranks = context.row_ranks.data<int32_t>();
  }
  check(reading != Reading::trusted || depth >= 2,
        "[sketch] reading trusted of {} compares depths: depth {} must be at least 2", context.name,
        depth);
  check(spec.exact == 0.0 || (depth == 1 && spec.width == 0),
        "[sketch] {} with exact rows has depth 1 and a ratio, not depth {} and width {}",
        context.name, depth, spec.width);
  check(spec.exact == 0.0 || !cleans(spec),
        "[sketch] {}: cleaning would take from exact rows what they hold; leave one of them out",
        context.name);
  check(spec.exact == 0.0 || !spec.bf16,
        "[sketch] {}: cells of bf16 cannot hold exact rows; leave one of them out", context.name);
  const int64_t cell_bytes = size_of(spec.bf16 ? DType::bfloat16 : DType::float32);
  if (spec.width > 0) return {depth, spec.width, hash, 0, cell_bytes};
  return SketchGeometry::fit(context, spec.ratio, spec.exact, depth, floats, cell_bytes, hash);
}

template <class Spec>
int64_t bytes_of(const StateMemoryContext& context, const Spec& spec, Reading reading) {
  return geometry_of(context, spec, reading).bytes(context.dim) +
         context.rows * row_floats(reading, context.dim) * size_of(DType::float32);
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
    scale_estimates(rows, cleaning_.alpha);
  }
}

void CountMinMemory::save(StateDict& state, const std::string& prefix) const {
  SketchMemory::save(state, prefix);
  state.set_integer(prefix + "cleanings", cleanings_);
  state.set_integer(prefix + "clean_every", cleaning_.every);
}

void CountMinMemory::load(const StateDict& state, const std::string& prefix) {
  const std::string key = prefix + "clean_every";
  const int64_t every = state.metadata.contains(key) ? state.integer(key) : cleaning_.every;
  check(every == cleaning_.every,
        "[sketch] {}: {} holds a sketch cleaned every {} steps (0: never), this optimizer cleans "
        "every {}",
        name(), state.source, every, cleaning_.every);
  SketchMemory::load(state, prefix);
  cleanings_ = state.integer(prefix + "cleanings");
}

}  // namespace sketchgrad
