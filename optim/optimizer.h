#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/framework/parameter.h"
#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// A rule at one step: the per-element formula, and how each auxiliary variable it uses takes in a
// gradient.
struct RuleStep {
  kernels::UpdateRule rule;
  std::optional<kernels::Accumulate> first;
  std::optional<kernels::Accumulate> second;
};

// Which memories hold the auxiliary variables of a parameter.
struct Moments {
  MemorySpec first = Dense{};
  MemorySpec second = Dense{};
  // All rows of the table in the order of the bands of a banded sketch, as by falling frequency;
  // empty: by id. State of 4 bytes a row, once a table ("row_ranks": the place of each row).
  std::vector<int32_t> row_order = {};
  // A row that row-sparse steps left out decays by as many steps when it is active again, as if
  // each of them had been one of no gradient, in 4 bytes a row of the table. Otherwise it goes on
  // as it was (SparseAdam). Parameters of inactive rows stay in both cases. Sm3Covers and the
  // readings linear and bucket_local refuse it.
  bool decay_skipped = false;
};

struct StateBytes {
  std::string name;  // "embedding.weight.second.cells"
  int64_t bytes = 0;
};

// Steps a set of parameters by one rule. For dense and row-sparse gradients alike; a parameter
// without a gradient is left alone. A row-sparse step leaves the parameters
// and dense state of other rows alone (decay and weight decay included), as in SparseAdam; what
// other rows have in a sketch moves with the buckets that they share. The bias correction counts
// the optimizer's steps, not the row's. Deterministic for any number of threads.
//
//   Optimizer optimizer(Adam{.learning_rate = 1e-3f});
//   optimizer.add(embedding.weight(), {CountSketch{0.2}, CountMin{0.2}});
//   optimizer.add(lstm.parameters());
//   ... tape.backward(loss); optimizer.step(); optimizer.clear_gradients();
class Optimizer {
 public:
  // `rule`: Sgd, Momentum, Adagrad, Rmsprop, Adam, or any type with learning_rate, moments() (the
  // default memories) and at(step, learning_rate) -> RuleStep. `seed` draws the hash families.
  // Throws InvalidArgument where the rule's check_settings(), if it has one, does.
  template <class Rule>
  explicit Optimizer(Rule rule, uint64_t seed = 0)
      : learning_rate_(checked(rule).learning_rate),
        default_moments_(rule.moments()),
        seed_(seed),
        rule_([rule](int64_t step, float learning_rate) { return rule.at(step, learning_rate); }) {}

  // Throws InvalidArgument if a memory does not fit the rule or the parameter, a name stands twice,
  // or an order of rows is given that no memory uses or that does not hold each row once.
  void add(Parameter& parameter, const Moments& moments);
  void add(Parameter& parameter) { add(parameter, default_moments_); }
  void add(const std::vector<Parameter*>& parameters);

  void step();
  void clear_gradients();

  float learning_rate() const { return learning_rate_; }
  void set_learning_rate(float learning_rate) { learning_rate_ = learning_rate; }
  int64_t steps() const { return steps_; }
  // The rule at a step, counted from 1: what it keeps, and how that takes in a gradient.
  RuleStep rule_step(int64_t step) const { return rule_(step, learning_rate_); }
  std::vector<Parameter*> parameters() const;
  const Moments& default_moments() const { return default_moments_; }
  // What holds a moment of a parameter, for those who watch it; null where the rule has no such
  // moment or the parameter was not added. It stays where it is as long as the optimizer lives.
  const StateMemory* memory(const Parameter& parameter, MomentRole role) const;
  bool decays_skipped(const Parameter& parameter) const;  // Moments::decay_skipped

  // Between steps: folds the sketches to half of their buckets (StateMemory::fold), so that
  // training can go on in less memory. The bytes that this frees; 0 where nothing can be folded. On
  // the way each takes the bytes of its folded cells once more; where these are not there it throws
  // OutOfMemory, and what was folded till then is.
  int64_t fold();
  int64_t foldable_bytes() const;  // what fold() would free

  // Bytes of state, tensor by tensor.
  std::vector<StateBytes> state_bytes() const;
  // Bytes of the rule's moments, were every one of them dense.
  int64_t dense_state_bytes() const;

  // State under "optimizer." names. load throws InvalidArgument where a checkpoint's sketches have
  // a geometry that neither folds to the one here nor is folded to from it, or another order of
  // rows, DataError where something is missing.
  void save(StateDict&) const;
  void load(const StateDict&);

 private:
  template <class Rule>
  static const Rule& checked(const Rule& rule) {
    if constexpr (requires { rule.check_settings(); }) rule.check_settings();
    return rule;
  }

  struct Slot {
    Parameter* parameter;
    std::unique_ptr<StateMemory> first;   // null where the rule has no first moment
    std::unique_ptr<StateMemory> second;  // likewise
    Tensor row_ranks;                     // of StateMemoryContext; mostly undefined
    Tensor last_steps;                    // int32 [rows], with decay_skipped: 0 or the row's last
  };
  void step_parameter(Slot&, const RuleStep&);

  float learning_rate_;
  Moments default_moments_;
  uint64_t seed_;
  std::function<RuleStep(int64_t, float)> rule_;
  int64_t steps_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace sketchgrad
