#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/framework/parameter.h"
#include "sketchgrad/optim/memory_study.h"
#include "sketchgrad/optim/optimizer.h"
#include "sketchgrad/optim/row_reservoir.h"
#include "sketchgrad/optim/sketch_memory.h"

namespace sketchgrad {

// Of one moment of one table, over the rows of its reservoir.
struct SketchError {
  std::string moment;  // "embedding.weight.first"
  int64_t rows = 0;    // that the reservoir has
  StateError error;
};

// How far the sketches of an optimizer are from the exact state while it trains. Each table of
// which a moment lies in a sketch has a reservoir of rows, a uniform sample of those that were ever
// active (RowReservoir), and of these rows the exact state: what dense memories would hold.
// Training stays as it is, bit for bit.
//
// Of a table [rows, D] with m moments in sketches, and M rows, it takes M m D floats of category
// workspace and M RowReservoir::kBytesOfSlot bytes of category index, whatever `rows` is; during a
// step or a reading, 2 M D floats (and what kernels take to read M rows of a sketch) more. A step
// costs one hash for each active row and the exact step of those in the reservoir. On CUDA the ids
// are copied to the CPU, which waits for all queued work.
//
// Rows that a step leaves inactive keep their exact state, while the linear reading decays them and
// cleaning multiplies all rows: that counts as error, as in MemoryStudy.
class SketchTelemetry {
 public:
  // `optimizer` must outlive it, and not have stepped yet: later, exact state would lack what came
  // before. Throws InvalidArgument where it has, where rows is below 1, where no moment is in a
  // sketch, or one of those that are decays by skipped steps. `seed` draws the reservoirs.
  SketchTelemetry(const Optimizer& optimizer, int64_t rows, uint64_t seed = 0);

  // Takes in the gradients. To be called before each of the optimizer's steps. Where it throws
  // OutOfMemory, nothing has changed and it can be called again.
  void step();
  // One entry a moment in a sketch, in the order of the optimizer's parameters. Sketches may have
  // been folded since.
  std::vector<SketchError> errors() const;

  int64_t bytes() const;  // what it takes between steps
  // The same of one table, without making it.
  static int64_t planned_bytes(int64_t rows, int64_t table_rows, int64_t dim, int64_t moments);

  // State under "optimizer.telemetry." names. load() belongs after the optimizer's; it throws
  // InvalidArgument where the checkpoint's run had none, or one of another number of rows.
  void save(StateDict& state) const;
  void load(const StateDict& state);

 private:
  struct Moment {
    MomentRole role;
    const SketchMemory* sketch;
    std::string name;
    Tensor exact;  // [capacity of the reservoir, dim], by slot
  };
  struct Table {
    Parameter* parameter;
    int64_t dim;
    RowReservoir reservoir;
    std::vector<Moment> moments;
  };
  struct StepArrays;
  void advance(Table& table, const RuleStep& rule, const StepArrays& arrays) const;

  const Optimizer& optimizer_;
  int64_t rows_;
  int64_t steps_ = 0;
  std::vector<Table> tables_;
};

}  // namespace sketchgrad
