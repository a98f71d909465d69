#include "sketchgrad/optim/optimizer.h"

#include <algorithm>

namespace sketchgrad {

namespace {

// A hash family of its own for each table: the optimizer's seed mixed with the name (FNV-1a).
uint64_t hash_seed(uint64_t seed, const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (const char character : name) {
    hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001b3u;
  }
  return hash;
}

std::unique_ptr<StateMemory> make_moment(const Parameter& parameter, const MemorySpec& spec,
                                         const std::optional<kernels::Accumulate>& accumulate,
                                         MomentRole role, uint64_t seed) {
  const char* moment = role == MomentRole::first ? "first" : "second";
  if (!accumulate) {
    check(std::holds_alternative<Dense>(spec) || std::holds_alternative<None>(spec),
          "[optimizer] {} for the {} moment of {}: the rule has none", to_string(spec), moment,
          parameter.name);
    return nullptr;
  }
  return make_memory(spec, memory_context(parameter.name + "." + moment, parameter.value, role,
                                          *accumulate, hash_seed(seed, parameter.name)));
}

}  // namespace

void Optimizer::add(Parameter& parameter, const Moments& moments) {
  for (const Slot& slot : slots_) {
    check(slot.parameter->name != parameter.name, "[optimizer] {} was added before",
          parameter.name);
  }
  const RuleStep rule = rule_step(1);
  slots_.push_back(
      {&parameter, make_moment(parameter, moments.first, rule.first, MomentRole::first, seed_),
       make_moment(parameter, moments.second, rule.second, MomentRole::second, seed_)});
}

void Optimizer::add(const std::vector<Parameter*>& parameters) {
  for (Parameter* parameter : parameters) add(*parameter);
}

std::vector<Parameter*> Optimizer::parameters() const {
  std::vector<Parameter*> result;
  for (const Slot& slot : slots_) result.push_back(slot.parameter);
  return result;
}

void Optimizer::step() {
  ++steps_;
  const RuleStep rule = rule_step(steps_);
  for (Slot& slot : slots_) {
    if (!slot.parameter->gradient.empty()) step_parameter(slot, rule);
  }
}

void Optimizer::step_parameter(Slot& slot, const RuleStep& rule) {
  const MemoryScope scope("step " + slot.parameter->name);
  const Tensor& value = slot.parameter->value;
  const Tensor gradient = slot.parameter->gradient.values();
  if (gradient.numel() == 0) return;
  const bool row_sparse = slot.parameter->gradient.kind() == Gradient::Kind::row_sparse;
  const Tensor ids = row_sparse ? slot.parameter->gradient.rows().ids : Tensor();
  const bool by_rows = row_sparse || (slot.first && slot.first->needs_rows()) ||
                       (slot.second && slot.second->needs_rows());
  // Elements on their own need no rows: one long row is cut into even pieces.
  kernels::Matrix parameter =
      by_rows ? table_view(value) : kernels::contiguous(value.data<float>(), 1, value.numel());
  const int64_t count = row_sparse ? ids.numel() : parameter.rows;

  StepRows rows(value.exec(), value.device(), row_sparse ? ids.data<int32_t>() : nullptr,
                kernels::contiguous(gradient.data<float>(), count, parameter.cols), steps_);
  const auto begin = [&](StateMemory* memory, const std::optional<kernels::Accumulate>& moment) {
    return memory != nullptr ? memory->begin(rows, *moment)
                             : kernels::StateAccess{kernels::NoState{}};
  };
  const kernels::StateAccess first = begin(slot.first.get(), rule.first);
  const kernels::StateAccess second = begin(slot.second.get(), rule.second);
  kernels::update_rows(rows.exec(), rule.rule, first, second, rows.ids(), rows.gradient(),
                       parameter);
  if (slot.first) slot.first->end(rows);
  if (slot.second) slot.second->end(rows);
}

void Optimizer::clear_gradients() {
  for (Slot& slot : slots_) slot.parameter->gradient.clear();
}

namespace {

// f(memory, name) for every memory of a slot.
template <class Slot, class F>
void for_each_memory(const Slot& slot, const F& f) {
  if (slot.first) f(*slot.first, slot.parameter->name + ".first");
  if (slot.second) f(*slot.second, slot.parameter->name + ".second");
}

}  // namespace

int64_t Optimizer::fold() {
  int64_t freed = 0;
  for (const Slot& slot : slots_) {
    for_each_memory(slot, [&](StateMemory& memory, const std::string&) { freed += memory.fold(); });
  }
  return freed;
}

int64_t Optimizer::foldable_bytes() const {
  int64_t total = 0;
  for (const Slot& slot : slots_) {
    for_each_memory(slot, [&](const StateMemory& memory, const std::string&) {
      total += memory.foldable_bytes();
    });
  }
  return total;
}

std::vector<StateBytes> Optimizer::state_bytes() const {
  std::vector<StateBytes> result;
  for (const Slot& slot : slots_) {
    for_each_memory(slot, [&](const StateMemory& memory, const std::string& name) {
      for (const auto& [part, tensor] : memory.tensors()) {
        result.push_back({name + "." + part, tensor.bytes()});
      }
    });
  }
  return result;
}

void Optimizer::save(StateDict& state) const {
  state.set_integer("optimizer.steps", steps_);
  state.set_real("optimizer.learning_rate", learning_rate_);
  for (const Slot& slot : slots_) {
    for_each_memory(slot, [&](const StateMemory& memory, const std::string& name) {
      const std::string prefix = "optimizer." + name + ".";
      for (const auto& [part, tensor] : memory.tensors()) state.tensors[prefix + part] = tensor;
      memory.save(state, prefix);
    });
  }
}

void Optimizer::load(const StateDict& state) {
  for (Slot& slot : slots_) {
    for_each_memory(slot, [&](StateMemory& memory, const std::string& name) {
      memory.load(state, "optimizer." + name + ".");
    });
  }
  steps_ = state.integer("optimizer.steps");
  learning_rate_ = static_cast<float>(state.real("optimizer.learning_rate"));
}

}  // namespace sketchgrad
