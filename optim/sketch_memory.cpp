#include "sketchgrad/optim/sketch_memory.h"

#include <cmath>

#include "sketchgrad/kernels/elementwise.h"

namespace sketchgrad {

namespace {

// Where the linear reading multiplies its pending decay into the cells, long before floats run out.
constexpr double kSmallestCellScale = 1e-12;

constexpr int64_t kRowValues = 3;

}  // namespace

SketchGeometry SketchGeometry::fit(const StateMemoryContext& context, double ratio, int32_t depth,
                                   int64_t row_floats) {
  const double rows = static_cast<double>(context.rows);
  const double dim = static_cast<double>(context.dim);
  const double bucket_floats = depth * dim;
  const double width = std::floor((ratio * rows * dim - rows * row_floats) / bucket_floats);
  check(width >= 1.0,
        "[sketch] ratio {} of {} [{}, {}] leaves no bucket at depth {}; the smallest that works is "
        "{:.6f}",
        ratio, context.name, context.rows, context.dim, depth,
        (std::ceil((bucket_floats + rows * row_floats) / (rows * dim) * 1e6) + 1.0) / 1e6);
  return {depth, static_cast<int64_t>(width), context.hash_seed};
}

SketchMemory::SketchMemory(const StateMemoryContext& context, SketchGeometry geometry,
                           Reading reading)
    : name_(context.name), geometry_(geometry), reading_(reading) {
  check(geometry.depth >= 1 && geometry.depth <= kernels::kMaxSketchDepth,
        "[sketch] depth {} of {} is outside 1 to {}", geometry.depth, name_,
        kernels::kMaxSketchDepth);
  check(geometry.width >= 1 && geometry.width < int64_t{kernels::kSlotSign},
        "[sketch] width {} of {} is outside 1 to 2^31 - 1", geometry.width, name_);
  cells_ =
      Tensor::zeros({geometry.depth, geometry.width, context.dim},
                    {Category::optimizer_state, name_ + ".cells"}, DType::float32, context.device);
}

void SketchMemory::begin(StepRows& rows, const kernels::Accumulate& accumulate) {
  accumulate_ = accumulate;
  estimate_ =
      Tensor::empty({rows.count(), rows.tile_columns()}, {Category::workspace, "sketch.estimate"},
                    DType::float32, rows.device());
  row_values_ =
      Tensor::empty({kRowValues, rows.count()}, {Category::workspace, "sketch.row_values"},
                    DType::float32, rows.device());
}

const kernels::SketchPlan& SketchMemory::plan(StepRows& rows) const {
  return rows.plan(geometry_.seed, geometry_.depth, geometry_.width);
}

float* SketchMemory::row_workspace(int64_t index) const {
  return row_values_.rows(index, 1).data<float>();
}

kernels::EstimatedState SketchMemory::read(StepRows& rows, kernels::SketchView cells,
                                           kernels::Matrix estimate) {
  kernels::sketch_estimate(rows.exec(), cells, plan(rows), combine(), with_signs(),
                           static_cast<float>(cell_scale_), estimate);
  return {estimate, {accumulate_.decay}, {accumulate_.scale}, accumulate_};
}

kernels::SketchWrite SketchMemory::change() const {
  kernels::SketchWrite write{
      .estimate_weight = {accumulate_.decay - 1.0f},
      .input_weight = {accumulate_.scale},
      .mean = reading_ == Reading::mean_delta || reading_ == Reading::trusted,
      .clamp_at_zero = clamp_at_zero(),
      .accumulate = accumulate_,
  };
  if (reading_ == Reading::bucket_local) {
    write.estimate_weight = {0.0f};
    write.cell_decay = accumulate_.decay - 1.0f;
  } else if (reading_ == Reading::linear) {
    write.estimate_weight = {0.0f};
    write.input_weight = {
        static_cast<float>(accumulate_.scale / (cell_scale_ * accumulate_.decay))};
  }
  return write;
}

kernels::StateAccess SketchMemory::advance(StepRows& rows, int64_t begin, int64_t count) {
  const Shape& shape = cells_.shape();
  const kernels::SketchView cells = kernels::SketchView{cells_.data<float>(), geometry_.depth,
                                                        geometry_.width, shape[2], shape[2]}
                                        .columns(begin, count);
  const kernels::Matrix estimate{estimate_.data<float>(), rows.count(), count, count};
  kernels::EstimatedState state = read(rows, cells, estimate);
  kernels::sketch_write(rows.exec(), cells, plan(rows), with_signs(), change(), estimate,
                        rows.gradient().columns(begin, count));
  if (reading_ == Reading::requery) {
    kernels::sketch_estimate(rows.exec(), cells, plan(rows), combine(), with_signs(), 1.0f,
                             estimate);
    state.decay = {1.0f};
    state.scale = {0.0f};
  }
  return state;
}

void SketchMemory::end(StepRows& rows) {
  estimate_ = Tensor();
  row_values_ = Tensor();
  if (reading_ != Reading::linear) return;
  cell_scale_ *= accumulate_.decay;
  if (cell_scale_ < kSmallestCellScale) {
    kernels::scale(rows.exec(), cells_.data<float>(), static_cast<float>(cell_scale_),
                   cells_.data<float>(), cells_.numel());
    cell_scale_ = 1.0;
  }
}

std::vector<std::pair<std::string, Tensor>> SketchMemory::tensors() const {
  return {{"cells", cells_}};
}

void SketchMemory::save(StateDict& state, const std::string& prefix) const {
  state.set_integer(prefix + "depth", geometry_.depth);
  state.set_integer(prefix + "width", geometry_.width);
  state.set_unsigned(prefix + "hash_seed", geometry_.seed);
  state.set(prefix + "reading", to_string(reading_));
  state.set_real(prefix + "cell_scale", cell_scale_);
}

void SketchMemory::load(const StateDict& state, const std::string& prefix) {
  const int64_t depth = state.integer(prefix + "depth");
  const int64_t width = state.integer(prefix + "width");
  const std::string& reading = state.text(prefix + "reading");
  check(depth == geometry_.depth && width == geometry_.width && reading == to_string(reading_),
        "[sketch] {}: {} holds depth {}, width {}, reading {}; this optimizer has depth {}, width "
        "{}, reading {}",
        name_, state.source, depth, width, reading, geometry_.depth, geometry_.width,
        to_string(reading_));
  geometry_.seed = state.unsigned_integer(prefix + "hash_seed");
  cell_scale_ = state.real(prefix + "cell_scale");
}

// ---- Count-sketch

namespace {

// The weights that x <- decay x + scale u has given to `steps` inputs, added up.
float mass_after(const kernels::Accumulate& accumulate, int64_t steps) {
  const double decay = accumulate.decay;
  const double count = static_cast<double>(steps);
  const double sum = decay == 1.0 ? count : (1.0 - std::pow(decay, count)) / (1.0 - decay);
  return static_cast<float>(accumulate.scale * sum);
}

Reading resolve(Reading reading, Reading automatic, Reading refused, const std::string& name) {
  check(reading != refused, "[sketch] reading {} is not for {}", to_string(reading), name);
  return reading == Reading::automatic ? automatic : reading;
}

Reading first_moment_reading(const StateMemoryContext& context, const CountSketch& spec) {
  return resolve(spec.reading, Reading::trusted, Reading::row_scaled, context.name);
}

// A float a row is little where rows are wide. Where it would take half of the bytes or more, the
// scales are left out.
Reading second_moment_reading(const StateMemoryContext& context, const CountMin& spec) {
  const bool narrow = spec.ratio * static_cast<double>(context.dim) < 2.0;
  return resolve(spec.reading, narrow ? Reading::mean_delta : Reading::row_scaled, Reading::trusted,
                 context.name);
}

// Copies in several depths guard an estimate against heavy neighbours. Where each row is scaled by
// its own exact value there are none, and one wide depth has the fewest collisions for the bytes.
template <class Spec>
SketchGeometry geometry_of(const StateMemoryContext& context, const Spec& spec, Reading reading) {
  const bool scaled = reading == Reading::row_scaled;
  const int32_t depth = spec.depth > 0 ? spec.depth : (scaled ? 1 : 3);
  check(reading != Reading::trusted || depth >= 2,
        "[sketch] reading trusted of {} compares depths: depth {} must be at least 2", context.name,
        depth);
  if (spec.width > 0) return {depth, spec.width, context.hash_seed};
  return SketchGeometry::fit(context, spec.ratio, depth, scaled ? 1 : 0);
}

}  // namespace

CountSketchMemory::CountSketchMemory(const StateMemoryContext& context, const CountSketch& spec)
    : SketchMemory(context, geometry_of(context, spec, first_moment_reading(context, spec)),
                   first_moment_reading(context, spec)) {}

kernels::EstimatedState CountSketchMemory::read(StepRows& rows, kernels::SketchView cells,
                                                kernels::Matrix estimate) {
  if (reading() != Reading::trusted) return SketchMemory::read(rows, cells, estimate);
  const kernels::TrustRule rule{.gamma = accumulate().decay,
                                .mass = mass_after(accumulate(), rows.step()),
                                .previous_mass = mass_after(accumulate(), rows.step() - 1)};
  float* decay = row_workspace(0);
  float* scale = row_workspace(1);
  kernels::sketch_estimate_trusted(rows.exec(), cells, plan(rows), rule, estimate, decay, scale);
  return {estimate, {0.0f, decay}, {0.0f, scale}, accumulate()};
}

// ---- Count-min

CountMinMemory::CountMinMemory(const StateMemoryContext& context, const CountMin& spec)
    : SketchMemory(context, geometry_of(context, spec, second_moment_reading(context, spec)),
                   second_moment_reading(context, spec)),
      cleaning_(spec.cleaning) {
  if (reading() == Reading::row_scaled) {
    row_scale_ =
        Tensor::zeros({context.rows}, {Category::optimizer_state, context.name + ".row_scale"},
                      DType::float32, context.device);
  }
}

kernels::Combine CountMinMemory::combine() const {
  return reading() == Reading::row_scaled ? kernels::Combine::mean : kernels::Combine::minimum;
}

void CountMinMemory::begin(StepRows& rows, const kernels::Accumulate& accumulate) {
  SketchMemory::begin(rows, accumulate);
  if (reading() != Reading::row_scaled) return;
  kernels::row_scale_coefficients(rows.exec(), rows.ids(), rows.count(), rows.row_mean_squares(),
                                  accumulate, row_scale_.data<float>(), row_workspace(0),
                                  row_workspace(1), row_workspace(2));
}

kernels::EstimatedState CountMinMemory::read(StepRows& rows, kernels::SketchView cells,
                                             kernels::Matrix estimate) {
  kernels::EstimatedState state = SketchMemory::read(rows, cells, estimate);
  if (reading() == Reading::row_scaled) state.decay = {0.0f, row_workspace(0)};
  return state;
}

kernels::SketchWrite CountMinMemory::change() const {
  kernels::SketchWrite write = SketchMemory::change();
  if (reading() == Reading::row_scaled) {
    write.mean = true;
    write.estimate_weight = {0.0f, row_workspace(1)};
    write.input_weight = {0.0f, row_workspace(2)};
  }
  return write;
}

void CountMinMemory::end(StepRows& rows) {
  SketchMemory::end(rows);
  if (cleaning_.every == 0) return;
  // A table without active rows at the step itself is cleaned at its next one.
  for (const int64_t due = rows.step() / cleaning_.every; cleanings_ < due; ++cleanings_) {
    const Tensor all = cells();
    kernels::scale(rows.exec(), all.data<float>(), cleaning_.alpha, all.data<float>(), all.numel());
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

std::vector<std::pair<std::string, Tensor>> CountMinMemory::tensors() const {
  auto result = SketchMemory::tensors();
  if (row_scale_.defined()) result.push_back({"row_scale", row_scale_});
  return result;
}

}  // namespace sketchgrad
