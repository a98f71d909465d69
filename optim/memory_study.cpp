#include "sketchgrad/optim/memory_study.h"

#include <algorithm>
#include <cmath>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/optim/sketch_memory.h"

namespace sketchgrad {

namespace {

double length(const Tensor& table, int64_t begin, int64_t end) {
  const int64_t columns = table_view(table).cols;
  return std::sqrt(kernels::sum_of_squares(table.exec(), table.data<float>() + begin * columns,
                                           (end - begin) * columns));
}

StateError error_of(const Tensor& difference, const Tensor& exact, int64_t begin, int64_t end) {
  return StateError::of(length(difference, begin, end), length(exact, begin, end));
}

const std::optional<kernels::Accumulate>& accumulate_of(const RuleStep& rule, MomentRole role) {
  return role == MomentRole::first ? rule.first : rule.second;
}

}  // namespace

MemoryStudy::MemoryStudy(const Optimizer& optimizer, Parameter& table, MomentRole role,
                         const std::vector<MemorySpec>& memories, int64_t heavy_rows)
    : optimizer_(optimizer),
      table_(table),
      role_(role),
      specs_(memories),
      heavy_rows_(std::clamp<int64_t>(heavy_rows, 0, table_view(table.value).rows)),
      loads_(memories.size()) {
  const RuleStep rule = optimizer.rule_step(1);
  const std::optional<kernels::Accumulate>& accumulate = accumulate_of(rule, role);
  check(accumulate.has_value(), "[study] the rule has no {} moment of {}", to_string(role),
        table.name);
  const StateMemoryContext context =
      memory_context(table.name + ".study", table.value, role, *accumulate, /*hash_seed=*/1);
  exact_ = make_memory(Dense{}, context);
  for (const MemorySpec& spec : memories) memories_.push_back(make_memory(spec, context));
  nothing_ = Tensor::zeros(table.value.shape(), {Category::workspace, "study.nothing"},
                           DType::float32, table.value.device());
}

MemoryStudy::~MemoryStudy() = default;
MemoryStudy::MemoryStudy(MemoryStudy&&) noexcept = default;

int64_t MemoryStudy::bytes(size_t memory) const { return memories_.at(memory)->bytes(); }

// values += weight * x for the rows, x the memory's variable after the step.
void MemoryStudy::advance(StateMemory& memory, StepRows& rows,
                          const kernels::Accumulate& accumulate, float weight,
                          const Tensor& values) {
  const kernels::StateAccess access = memory.begin(rows, accumulate);
  kernels::update_rows(rows.exec(), kernels::MomentumRule{-weight, 0.0f, 1.0f}, access,
                       kernels::NoState{}, rows.ids(), rows.gradient(), table_view(values));
  memory.end(rows);
}

void MemoryStudy::step() {
  Gradient& gradient = table_.gradient;
  if (gradient.empty()) return;
  const bool row_sparse = gradient.kind() == Gradient::Kind::row_sparse;
  const Tensor values = gradient.values();
  const Tensor ids = row_sparse ? gradient.rows().ids : Tensor();
  const int64_t count = row_sparse ? ids.numel() : table_view(table_.value).rows;
  if (count == 0) return;
  const int64_t number = optimizer_.steps() + 1;
  StepRows rows(
      table_.value.exec(), table_.value.device(), row_sparse ? ids.data<int32_t>() : nullptr,
      kernels::contiguous(values.data<float>(), count, table_view(table_.value).cols), number);
  const RuleStep rule = optimizer_.rule_step(number);
  const kernels::Accumulate& accumulate = *accumulate_of(rule, role_);
  advance(*exact_, rows, accumulate, 0.0f, nothing_);
  for (size_t i = 0; i < memories_.size(); ++i) {
    advance(*memories_[i], rows, accumulate, 0.0f, nothing_);
    const auto* sketch = dynamic_cast<const SketchMemory*>(memories_[i].get());
    // On a GPU the host does not know how many buckets there are.
    if (sketch == nullptr || table_.value.device() != kCpu) continue;
    const SketchGeometry& geometry = sketch->geometry();
    const kernels::Groups& groups =
        rows.plan(geometry.hash, geometry.depth, geometry.width, {geometry.heavy_rows}).groups[0];
    int64_t largest = 0;
    for (int64_t g = 0; g < groups.count; ++g) {
      largest = std::max<int64_t>(largest, groups.begin[g + 1] - groups.begin[g]);
    }
    loads_[i] = {static_cast<double>(count) / static_cast<double>(groups.count), largest};
  }
}

// What the memory holds less the exact state.
Tensor MemoryStudy::difference(StateMemory& memory, const Tensor& exact) {
  const auto table = [&](const char* name) {
    return Tensor::zeros(table_.value.shape(), {Category::workspace, name}, DType::float32,
                         table_.value.device());
  };
  const Tensor gradient = table("study.gradient");
  StateDict kept;
  memory.save(kept, "study.");
  for (const auto& [name, tensor] : memory.tensors()) {
    kept.tensors["study." + name] = tensor.clone({Category::workspace, "study.kept"});
  }
  StepRows rows(table_.value.exec(), table_.value.device(), nullptr, table_view(gradient),
                optimizer_.steps());
  const Tensor result = exact.defined() ? exact.clone({Category::workspace, "study.difference"})
                                        : table("study.difference");
  if (exact.defined()) {
    float* const data = result.data<float>();
    kernels::scale(rows.exec(), data, -1.0f, data, result.numel());
  }
  // A step that advances nothing.
  advance(memory, rows, {1.0f, 0.0f, role_ == MomentRole::second}, 1.0f, result);
  memory.load(kept, "study.");
  return result;
}

std::vector<MemoryErrors> MemoryStudy::errors() {
  const Tensor exact = difference(*exact_, Tensor());
  const int64_t rows = table_view(table_.value).rows;
  std::vector<MemoryErrors> result;
  for (size_t i = 0; i < memories_.size(); ++i) {
    const Tensor wrong = difference(*memories_[i], exact);
    result.push_back({error_of(wrong, exact, 0, rows), error_of(wrong, exact, 0, heavy_rows_),
                      error_of(wrong, exact, heavy_rows_, rows), loads_[i].first,
                      loads_[i].second});
  }
  return result;
}

}  // namespace sketchgrad
