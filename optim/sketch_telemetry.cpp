#include "sketchgrad/optim/sketch_telemetry.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/philox.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {

namespace {

constexpr const char* kPrefix = "optimizer.telemetry.";

Tensor floats(const Shape& shape, std::string_view name, Device device) {
  return Tensor::zeros(shape, {Category::workspace, name}, DType::float32, device);
}

Tensor indices(int64_t count, const char* name, Device device) {
  return Tensor::empty({count}, {Category::index, name}, DType::int32, device);
}

double length(const Tensor& tensor) {
  return std::sqrt(kernels::sum_of_squares(tensor.exec(), tensor.data<float>(), tensor.numel()));
}

// What a step of the optimizer would skip.
bool is_idle(Gradient& gradient) { return gradient.empty() || gradient.values().numel() == 0; }

}  // namespace

// What a step needs besides, for the largest table.
struct SketchTelemetry::StepArrays {
  explicit StepArrays(const std::vector<Table>& tables) {
    int64_t rows = 0, elements = 0;
    for (const Table& table : tables) {
      rows = std::max(rows, table.reservoir.capacity());
      elements = std::max(elements, table.reservoir.capacity() * table.dim);
    }
    const Device device = tables.front().parameter->value.device();
    entries = indices(rows, "telemetry.entries", kCpu);
    slots = indices(rows, "telemetry.slots", kCpu);
    device_entries = device == kCpu ? entries : indices(rows, "telemetry.entries", device);
    device_slots = device == kCpu ? slots : indices(rows, "telemetry.slots", device);
    gradient = Tensor::empty({elements}, {Category::workspace, "telemetry.gradient"},
                             DType::float32, device);
    parameter = floats({elements}, "telemetry.parameter", device);
    for (const Table& table : tables) {
      Gradient& of_table = table.parameter->gradient;
      const bool row_sparse = !is_idle(of_table) && of_table.kind() == Gradient::Kind::row_sparse;
      ids.push_back(row_sparse ? of_table.rows().ids.to(kCpu, {Category::index, "telemetry.ids"})
                               : Tensor());
    }
  }

  std::vector<Tensor> ids;  // of each table the active rows, on the CPU; undefined: all
  Tensor entries, slots;    // [rows]: active rows of the reservoir, entry of the gradient and slot
  Tensor device_entries, device_slots;  // the same where the tables lie
  Tensor gradient;                      // [rows, dim] of the active rows of the reservoir
  Tensor parameter;                     // [rows, dim], nothing: what the rule steps
};

SketchTelemetry::SketchTelemetry(const Optimizer& optimizer, int64_t rows, uint64_t seed)
    : optimizer_(optimizer), rows_(rows) {
  check(rows >= 1, "[telemetry] reservoirs of {} rows, they must have at least 1", rows);
  check(optimizer.steps() == 0,
        "[telemetry] the optimizer has made {} steps; exact state has to begin with the first",
        optimizer.steps());
  for (Parameter* parameter : optimizer.parameters()) {
    const kernels::Matrix table = table_view(parameter->value);
    std::vector<Moment> moments;
    for (const MomentRole role : {MomentRole::first, MomentRole::second}) {
      const auto* sketch = dynamic_cast<const SketchMemory*>(optimizer.memory(*parameter, role));
      if (sketch == nullptr) continue;
      const std::string name = parameter->name + "." + to_string(role);
      moments.push_back({role, sketch, name,
                         floats({std::min(rows, table.rows), table.cols}, "telemetry." + name,
                                parameter->value.device())});
    }
    if (moments.empty()) continue;
    check(!optimizer.decays_skipped(*parameter),
          "[telemetry] {} decays by the steps that leave rows out, which exact state here does not",
          parameter->name);
    // A hash of its own for each table.
    const kernels::Philox4 bits = kernels::philox(seed, 1, tables_.size());
    tables_.push_back({parameter, table.cols,
                       RowReservoir("telemetry." + parameter->name, rows, table.rows,
                                    uint64_t{bits.v[0]} << 32 | bits.v[1]),
                       std::move(moments)});
  }
  check(!tables_.empty(), "[telemetry] no moment of the {} parameters lies in a sketch",
        optimizer.parameters().size());
}

void SketchTelemetry::step() {
  check(optimizer_.steps() == steps_,
        "[telemetry] the optimizer has made {} steps, of which the telemetry has seen {}",
        optimizer_.steps(), steps_);
  const MemoryScope scope("telemetry");
  const StepArrays arrays(tables_);  // nothing that comes behind it allocates
  const RuleStep rule = optimizer_.rule_step(steps_ + 1);
  for (size_t i = 0; i < tables_.size(); ++i) {
    Table& table = tables_[i];
    if (is_idle(table.parameter->gradient)) continue;
    const Tensor& ids = arrays.ids[i];
    table.reservoir.offer(ids.defined() ? ids.data<int32_t>() : nullptr,
                          table.parameter->gradient.values().numel() / table.dim);
    advance(table, rule, arrays);
  }
  ++steps_;
}

// The exact step of those rows of the reservoir that are active.
void SketchTelemetry::advance(Table& table, const RuleStep& rule, const StepArrays& arrays) const {
  const RowReservoir& reservoir = table.reservoir;
  int64_t count = 0;
  for (int64_t slot = 0; slot < reservoir.size(); ++slot) {
    if (reservoir.entry(slot) < 0) continue;
    arrays.entries.data<int32_t>()[count] = reservoir.entry(slot);
    arrays.slots.data<int32_t>()[count] = static_cast<int32_t>(slot);
    ++count;
    if (!reservoir.admitted(slot)) continue;
    for (const Moment& moment : table.moments) moment.exact.rows(slot, 1).fill(0.0f);
  }
  if (count == 0) return;
  arrays.device_entries.rows(0, count).copy_from(arrays.entries.rows(0, count));
  arrays.device_slots.rows(0, count).copy_from(arrays.slots.rows(0, count));

  const Tensor values = table.parameter->gradient.values();
  const kernels::Exec exec = values.exec();
  const kernels::Matrix gradient =
      kernels::contiguous(arrays.gradient.data<float>(), count, table.dim);
  kernels::gather_rows(
      exec, kernels::contiguous(values.data<float>(), values.numel() / table.dim, table.dim),
      arrays.device_entries.data<int32_t>(), /*padding_id=*/-1, gradient);
  kernels::StateAccess accesses[2] = {kernels::NoState{}, kernels::NoState{}};
  for (const Moment& moment : table.moments) {
    const bool first = moment.role == MomentRole::first;
    accesses[first ? 0 : 1] =
        kernels::DenseState{moment.exact.matrix(), first ? *rule.first : *rule.second};
  }
  kernels::update_rows(
      exec, kernels::SgdRule{0.0f}, accesses[0], accesses[1], arrays.device_slots.data<int32_t>(),
      gradient,
      kernels::contiguous(arrays.parameter.data<float>(), reservoir.capacity(), table.dim));
}

std::vector<SketchError> SketchTelemetry::errors() const {
  const MemoryScope scope("telemetry");
  std::vector<SketchError> result;
  for (const Table& table : tables_) {
    const RowReservoir& reservoir = table.reservoir;
    const int64_t size = reservoir.size();
    const Device device = table.parameter->value.device();
    // A sketch is read in the order of the rows.
    const Tensor slots = indices(size, "telemetry.slots", kCpu);
    const Tensor ids = indices(size, "telemetry.ids", kCpu);
    int32_t* const begin = slots.data<int32_t>();
    std::iota(begin, begin + size, 0);
    std::sort(begin, begin + size,
              [&](int32_t a, int32_t b) { return reservoir.row(a) < reservoir.row(b); });
    std::transform(begin, begin + size, ids.data<int32_t>(),
                   [&](int32_t slot) { return reservoir.row(slot); });
    const Tensor device_slots = slots.to(device, {Category::index, "telemetry.slots"});
    const Tensor device_ids = ids.to(device, {Category::index, "telemetry.ids"});
    for (const Moment& moment : table.moments) {
      SketchError entry{moment.name, size, {}};
      if (size > 0) {
        const Tensor values =
            Tensor::empty({size, table.dim}, {Category::workspace, "telemetry.difference"},
                          DType::float32, device);
        kernels::gather_rows(values.exec(), moment.exact.matrix(), device_slots.data<int32_t>(),
                             /*padding_id=*/-1, values.matrix());
        const double exact = length(values);
        float* const data = values.data<float>();
        kernels::scale(values.exec(), data, -1.0f, data, values.numel());
        moment.sketch->read(device_ids.data<int32_t>(), values.matrix());
        entry.error = StateError::of(length(values), exact);
      }
      result.push_back(std::move(entry));
    }
  }
  return result;
}

int64_t SketchTelemetry::bytes() const {
  int64_t total = 0;
  for (const Table& table : tables_) {
    total += table.reservoir.bytes();
    for (const Moment& moment : table.moments) total += moment.exact.bytes();
  }
  return total;
}

int64_t SketchTelemetry::planned_bytes(int64_t rows, int64_t table_rows, int64_t dim,
                                       int64_t moments) {
  if (moments == 0) return 0;
  return std::min(rows, table_rows) *
         (moments * dim * size_of(DType::float32) + RowReservoir::kBytesOfSlot);
}

void SketchTelemetry::save(StateDict& state) const {
  state.set_integer(std::string(kPrefix) + "rows", rows_);
  state.set_integer(std::string(kPrefix) + "steps", steps_);
  for (const Table& table : tables_) {
    table.reservoir.save(state, kPrefix + table.parameter->name + ".");
    for (const Moment& moment : table.moments) state.tensors[kPrefix + moment.name] = moment.exact;
  }
}

void SketchTelemetry::load(const StateDict& state) {
  const std::string key = std::string(kPrefix) + "rows";
  check(state.metadata.contains(key),
        "[telemetry] {} holds no reservoirs; exact state has to begin with the first step, so the "
        "run can only go on without",
        state.source);
  check(state.integer(key) == rows_,
        "[telemetry] {} holds reservoirs of {} rows, here they have {}", state.source,
        state.integer(key), rows_);
  for (Table& table : tables_) {
    table.reservoir.load(state, kPrefix + table.parameter->name + ".");
    for (const Moment& moment : table.moments) {
      state.copy_to(kPrefix + moment.name, moment.exact);
    }
  }
  steps_ = state.integer(std::string(kPrefix) + "steps");
}

}  // namespace sketchgrad
