#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/framework/tensor.h"
#include "sketchgrad/kernels/heavy_rows.h"
#include "sketchgrad/kernels/sketch.h"
#include "sketchgrad/kernels/update.h"
#include "sketchgrad/optim/memory_spec.h"

// An optimizer is a rule times memories: a rule says how a parameter moves given its auxiliary
// variables, a StateMemory holds one auxiliary variable of one table. Any rule works with any
// memory.
namespace sketchgrad {

// One step of one table: K active rows and their gradient, and what the memories of the table share
// during the step.
class StepRows {
 public:
  // ids: strictly increasing table rows, or null where all rows are active. gradient [K, D].
  StepRows(kernels::Exec exec, Device device, const int32_t* ids, kernels::ConstMatrix gradient,
           int64_t step)
      : exec_(exec), device_(device), ids_(ids), gradient_(gradient), step_(step) {}

  const kernels::Exec& exec() const { return exec_; }
  Device device() const { return device_; }
  const int32_t* ids() const { return ids_; }
  const kernels::ConstMatrix& gradient() const { return gradient_; }
  int64_t count() const { return gradient_.rows; }
  int64_t step() const { return step_; }  // 1 in the first step of the optimizer

  // Workspace for the step, not filled.
  Tensor floats(const char* name, int64_t count) const;

  // Of each entry decay^(step - the row's last one), [K]; made once a step and decay. last_steps
  // int32 [table rows], 0: never.
  const float* decays_since(const Tensor& last_steps, float decay);

  // Of each row of the gradient the sum of its elements or of their squares, [K]; made once a step.
  const float* row_sums(bool squared);

  // Of the heavy rows of one moment (heavy_rows.h), for others that have as many slots by the same
  // hashes: they choose the same rows. Undefined before the first of them has chosen.
  struct SlotClaims {
    Tensor slots, previous;  // int32 [K]: kernels::HeavyClaims
    Tensor owners, weights;  // of the slots, from then on
    kernels::HeavyClaims view() const { return {slots.data<int32_t>(), previous.data<int32_t>()}; }
  };
  SlotClaims& claims(uint64_t seed, int64_t slots) { return claims_[{seed, slots}]; }

  // The rows' places in a sketch geometry; made once a step and geometry. Of moments with as many
  // buckets of single rows, all have those of claims().
  const kernels::SketchPlan& plan(const kernels::RowHash& hash, int32_t depth, int64_t width,
                                  const kernels::OwnBuckets& own);

 private:
  struct Plan {
    std::vector<Tensor> arrays;
    kernels::SketchPlan plan;
  };
  kernels::Exec exec_;
  Device device_;
  const int32_t* ids_;
  kernels::ConstMatrix gradient_;
  int64_t step_;
  std::map<float, Tensor> decays_;
  std::map<bool, Tensor> row_sums_;
  std::map<std::pair<uint64_t, int64_t>, SlotClaims> claims_;
  using PlanKey = std::tuple<uint64_t, int64_t, const int32_t*, int64_t, int32_t,  // RowHash
                             int32_t, int64_t, int64_t>;
  std::map<PlanKey, Plan> plans_;
};

// One auxiliary variable x of a table [rows, dim], of which a step advances the active rows:
// x <- decay * x + scale * u. The state of rows that are not active stays as it is (lazy semantics,
// as in SparseAdam) unless the memory says otherwise.
class StateMemory {
 public:
  virtual ~StateMemory() = default;

  // Starts a step: how kernels::update_rows is to advance and read the variable. `accumulate` may
  // change from step to step. The access is valid until end().
  virtual kernels::StateAccess begin(StepRows&, const kernels::Accumulate& accumulate) = 0;
  // Ends the step: what comes after, as cleaning where it is due.
  virtual void end(StepRows&) {}
  // Instead of end() where the step failed: gives back what begin() has taken.
  virtual void abandon() noexcept {}

  // False if the elements of the table know nothing of each other. A table whose rows are all
  // active may then be stepped as any other matrix of as many elements.
  virtual bool needs_rows() const { return true; }

  // Gives up half of what can be given up between steps, and goes on with the rest: a sketch, half
  // of its buckets. The bytes that this frees; 0: nothing can be.
  virtual int64_t fold() { return 0; }
  virtual int64_t foldable_bytes() const { return 0; }  // what fold() would free

  // All state, by name ("cells"); the optimizer stores them in checkpoints.
  virtual std::vector<std::pair<std::string, Tensor>> tensors() const = 0;
  // What else must be stored, and what must agree when it is loaded (geometry, seed).
  virtual void save(StateDict&, const std::string&) const {}
  // Reads both; an override ends with this one, or fills the tensors itself.
  virtual void load(const StateDict&, const std::string& prefix);

  int64_t bytes() const;
};

// Of a variable that begin() has advanced: the rule reads it as it is.
inline constexpr kernels::Accumulate kAsItIs{1.0f, 0.0f, false};

// What a memory is made for.
struct StateMemoryContext {
  std::string name;  // of the state: "embedding.weight.second"
  MomentRole role = MomentRole::first;
  kernels::Accumulate accumulate;  // of the rule's first step
  int64_t rows = 0;
  int64_t dim = 0;
  uint64_t hash_seed = 0;  // one family a table
  Device device = kCpu;
  // Of a tensor of more axes than two, those that its columns are; empty: [dim].
  Shape columns_shape = {};
  bool decays_skipped = false;  // Moments::decay_skipped
  // int32 [rows]: places of the rows in the order by which banded sketches take them; undefined:
  // the ids. It is the table's, and counted in the bytes of none of its memories.
  Tensor row_ranks = {};
};

// A parameter as a table [rows, dim]: a vector has one column, further axes are columns.
kernels::Matrix table_view(const Tensor& value);
// Of a moment of a parameter.
StateMemoryContext memory_context(const std::string& name, const Tensor& parameter, MomentRole role,
                                  const kernels::Accumulate& accumulate, uint64_t hash_seed);

// Zeros, as optimizer_state "NAME.part".
Tensor state_floats(const StateMemoryContext& context, const std::string& part, int64_t count);

// What draws the bits of stochastic rounding, for each moment of a table apart and anew in each
// step.
uint64_t rounding_seed(const StateMemoryContext& context);
kernels::RoundingKey rounding_key(uint64_t seed, int64_t step);

// Throws InvalidArgument where the spec does not fit: a ratio too small for one bucket a depth, a
// reading that is not for this role, no memory for what the rule must keep.
std::unique_ptr<StateMemory> make_memory(const MemorySpec&, const StateMemoryContext&);

// What such a memory would take, to the byte, without making it (row_ranks are not part of it).
// Throws as make_memory does where the size does not fit.
int64_t planned_bytes(const MemorySpec&, const StateMemoryContext&);

}  // namespace sketchgrad
