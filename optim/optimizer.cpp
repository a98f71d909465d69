#include "sketchgrad/optim/optimizer.h"

#include <algorithm>

#include "sketchgrad/kernels/factors.h"

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

bool is_banded(const MemorySpec& spec) {
  const auto* signed_sketch = std::get_if<CountSketch>(&spec);
  const auto* unsigned_sketch = std::get_if<CountMin>(&spec);
  return (signed_sketch != nullptr && signed_sketch->banded) ||
         (unsigned_sketch != nullptr && unsigned_sketch->banded);
}

// The place of each row in the order; undefined where none is given.
Tensor ranks_of(const Parameter& parameter, const Moments& moments) {
  const std::vector<int32_t>& order = moments.row_order;
  if (order.empty()) return {};
  const std::string& name = parameter.name;
  check(is_banded(moments.first) || is_banded(moments.second),
        "[optimizer] row_order of {}: no memory of it is banded", name);
  const int64_t rows = table_view(parameter.value).rows;
  const auto count = static_cast<int64_t>(order.size());
  check(count == rows, "[optimizer] row_order of {} has {} rows, the table has {}", name, count,
        rows);
  const std::string label = name + ".row_ranks";
  const Purpose purpose{Category::optimizer_state, label};
  const Tensor ranks = Tensor::empty({rows}, purpose, DType::int32);
  int32_t* const rank = ranks.data<int32_t>();
  std::fill_n(rank, rows, -1);
  for (int64_t place = 0; place < rows; ++place) {
    const int32_t row = order[static_cast<size_t>(place)];
    check(row >= 0 && row < rows,
          "[optimizer] row_order of {}: {} at place {} is none of the rows 0 to {}", name, row,
          place, rows - 1);
    check(rank[row] < 0, "[optimizer] row_order of {}: {} at place {} stands at place {} already",
          name, row, place, rank[row]);
    rank[row] = static_cast<int32_t>(place);
  }
  return ranks.to(parameter.value.device(), purpose);
}

std::string ranks_key(const Parameter& parameter) {
  return "optimizer." + parameter.name + ".row_ranks";
}

std::string last_steps_key(const Parameter& parameter) {
  return "optimizer." + parameter.name + ".last_steps";
}

void check_ranks(const StateDict& state, const std::string& key, const Tensor& ranks) {
  const bool saved = state.tensors.contains(key);
  check(saved == ranks.defined(), "[optimizer] {} of {}: {}, this optimizer has {}", key,
        state.source, saved ? "an order of rows" : "no order of rows",
        ranks.defined() ? "one" : "none");
  if (!saved) return;
  const Purpose purpose{Category::workspace, "row_ranks"};
  const Tensor copy = Tensor::empty(ranks.shape(), purpose, DType::int32);
  state.copy_to(key, copy);
  const Tensor own = ranks.to(kCpu, purpose);
  const int32_t* const theirs = copy.data<int32_t>();
  const int32_t* const ours = own.data<int32_t>();
  for (int64_t row = 0; row < ranks.numel(); ++row) {
    check(theirs[row] == ours[row],
          "[optimizer] {} of {}: row {} is at place {}, in this optimizer at {}", key, state.source,
          row, theirs[row], ours[row]);
  }
}

void check_last_steps(const StateDict& state, const std::string& key, const Tensor& last_steps) {
  const int64_t steps = state.integer("optimizer.steps");
  const std::vector<int32_t> values = last_steps.to_vector<int32_t>();
  for (size_t row = 0; row < values.size(); ++row) {
    if (values[row] < 0 || values[row] > steps) {
      throw DataError(
          state.source, 0,
          fmt::format("{}: row {} was last active in step {} of {}", key, row, values[row], steps));
    }
  }
}

std::unique_ptr<StateMemory> make_moment(const Parameter& parameter, const MemorySpec& spec,
                                         const std::optional<kernels::Accumulate>& accumulate,
                                         MomentRole role, uint64_t seed, const Tensor& row_ranks,
                                         bool decays_skipped) {
  const std::string moment = to_string(role);
  if (!accumulate) {
    check(std::holds_alternative<Dense>(spec) || std::holds_alternative<None>(spec),
          "[optimizer] {} for the {} moment of {}: the rule has none", to_string(spec), moment,
          parameter.name);
    return nullptr;
  }
  StateMemoryContext context = memory_context(parameter.name + "." + moment, parameter.value, role,
                                              *accumulate, hash_seed(seed, parameter.name));
  context.row_ranks = row_ranks;
  context.decays_skipped = decays_skipped;
  return make_memory(spec, context);
}

}  // namespace

void Optimizer::add(Parameter& parameter, const Moments& moments) {
  for (const Slot& slot : slots_) {
    check(slot.parameter->name != parameter.name, "[optimizer] {} was added before",
          parameter.name);
  }
  const RuleStep rule = rule_step(1);
  const Tensor ranks = ranks_of(parameter, moments);
  const auto make = [&](const MemorySpec& spec, const auto& accumulate, MomentRole role) {
    return make_moment(parameter, spec, accumulate, role, seed_, ranks, moments.decay_skipped);
  };
  Slot slot{&parameter,
            make(moments.first, rule.first, MomentRole::first),
            make(moments.second, rule.second, MomentRole::second),
            ranks,
            {}};
  if (moments.decay_skipped) {
    slot.last_steps = Tensor::zeros({table_view(parameter.value).rows},
                                    {Category::optimizer_state, parameter.name + ".last_steps"},
                                    DType::int32, parameter.value.device());
  }
  slots_.push_back(std::move(slot));
}

void Optimizer::add(const std::vector<Parameter*>& parameters) {
  for (Parameter* parameter : parameters) add(*parameter);
}

std::vector<Parameter*> Optimizer::parameters() const {
  std::vector<Parameter*> result;
  for (const Slot& slot : slots_) result.push_back(slot.parameter);
  return result;
}

const StateMemory* Optimizer::memory(const Parameter& parameter, MomentRole role) const {
  for (const Slot& slot : slots_) {
    if (slot.parameter != &parameter) continue;
    return role == MomentRole::first ? slot.first.get() : slot.second.get();
  }
  return nullptr;
}

bool Optimizer::decays_skipped(const Parameter& parameter) const {
  return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    return slot.parameter == &parameter && slot.last_steps.defined();
  });
}

void Optimizer::step() {
  ++steps_;
  const RuleStep rule = rule_step(steps_);
  for (Slot& slot : slots_) {
    if (slot.parameter->gradient.empty()) continue;
    try {
      step_parameter(slot, rule);
    } catch (...) {
      if (slot.first) slot.first->abandon();
      if (slot.second) slot.second->abandon();
      throw;
    }
  }
}

void Optimizer::step_parameter(Slot& slot, const RuleStep& rule) {
  const MemoryScope scope("step " + slot.parameter->name);
  const Tensor& value = slot.parameter->value;
  const Tensor gradient = slot.parameter->gradient.values();
  if (gradient.numel() == 0) return;
  const bool row_sparse = slot.parameter->gradient.kind() == Gradient::Kind::row_sparse;
  const Tensor ids = row_sparse ? slot.parameter->gradient.rows().ids : Tensor();
  const bool by_rows = row_sparse || slot.last_steps.defined() ||
                       (slot.first && slot.first->needs_rows()) ||
                       (slot.second && slot.second->needs_rows());
  // Elements on their own need no rows: one long row is cut into even pieces.
  kernels::Matrix parameter =
      by_rows ? table_view(value) : kernels::contiguous(value.data<float>(), 1, value.numel());
  const int64_t count = row_sparse ? ids.numel() : parameter.rows;

  StepRows rows(value.exec(), value.device(), row_sparse ? ids.data<int32_t>() : nullptr,
                kernels::contiguous(gradient.data<float>(), count, parameter.cols), steps_);
  const auto begin = [&](StateMemory* memory, const std::optional<kernels::Accumulate>& moment) {
    if (memory == nullptr) return kernels::StateAccess{kernels::NoState{}};
    kernels::Accumulate accumulate = *moment;
    if (slot.last_steps.defined() && accumulate.decay < 1.0f) {
      accumulate.decays = rows.decays_since(slot.last_steps, accumulate.decay);
    }
    return memory->begin(rows, accumulate);
  };
  const kernels::StateAccess first = begin(slot.first.get(), rule.first);
  const kernels::StateAccess second = begin(slot.second.get(), rule.second);
  kernels::update_rows(rows.exec(), rule.rule, first, second, rows.ids(), rows.gradient(),
                       parameter);
  if (slot.first) slot.first->end(rows);
  if (slot.second) slot.second->end(rows);
  if (slot.last_steps.defined()) {
    kernels::set_last_steps(rows.exec(), rows.ids(), count, steps_,
                            slot.last_steps.data<int32_t>());
  }
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
    if (slot.row_ranks.defined()) {
      result.push_back({slot.parameter->name + ".row_ranks", slot.row_ranks.bytes()});
    }
    if (slot.last_steps.defined()) {
      result.push_back({slot.parameter->name + ".last_steps", slot.last_steps.bytes()});
    }
  }
  return result;
}

int64_t Optimizer::dense_state_bytes() const {
  const RuleStep rule = rule_step(1);
  const int64_t moments = (rule.first ? 1 : 0) + (rule.second ? 1 : 0);
  int64_t bytes = 0;
  for (const Slot& slot : slots_) bytes += moments * slot.parameter->value.bytes();
  return bytes;
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
    if (slot.row_ranks.defined()) state.tensors[ranks_key(*slot.parameter)] = slot.row_ranks;
    if (slot.last_steps.defined()) state.tensors[last_steps_key(*slot.parameter)] = slot.last_steps;
  }
}

void Optimizer::load(const StateDict& state) {
  for (Slot& slot : slots_) {
    check_ranks(state, ranks_key(*slot.parameter), slot.row_ranks);
    const std::string last_steps = last_steps_key(*slot.parameter);
    const bool saved = state.tensors.contains(last_steps);
    check(saved == slot.last_steps.defined(),
          "[optimizer] {} holds {}, this optimizer decays rows {}", state.source,
          saved ? last_steps : fmt::format("no {}", last_steps),
          saved ? "by one step whatever left them out" : "by the steps that left them out");
    if (saved) {
      state.copy_to(last_steps, slot.last_steps);
      check_last_steps(state, last_steps, slot.last_steps);
    }
    for_each_memory(slot, [&](StateMemory& memory, const std::string& name) {
      memory.load(state, "optimizer." + name + ".");
    });
  }
  steps_ = state.integer("optimizer.steps");
  learning_rate_ = static_cast<float>(state.real("optimizer.learning_rate"));
}

}  // namespace sketchgrad
