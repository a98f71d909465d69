#pragma once

#include <optional>

#include "sketchgrad/optim/heavy_rows.h"
#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// Geometry of a count-sketch tensor for a table [rows, dim].
struct SketchGeometry {
  int32_t depth = 0;
  int64_t width = 0;  // buckets a depth
  kernels::RowHash hash;
  int64_t heavy_rows = 0;  // with buckets of their own, behind the others
  int64_t cell_bytes = 4;  // of a float, or 2 of bf16

  // The widest sketch whose bytes, with `row_floats` further floats a table row, are at most
  // `ratio` of the dense state's; of what is left without these floats the share `exact` is for
  // heavy rows. Throws InvalidArgument with the smallest ratio that works if none is.
  static SketchGeometry fit(const StateMemoryContext&, double ratio, double exact, int32_t depth,
                            int64_t row_floats, int64_t cell_bytes, const kernels::RowHash&);
  int64_t buckets() const { return width + heavy_rows; }  // a depth
  int64_t bytes(int64_t dim) const;  // of the cells, and of what is kept with heavy rows
  // With half of the buckets, of which each takes two: neighbours, or, where rows are hashed by
  // blocks, those of two neighbouring blocks (kernels::RowHash). Nothing where there is one bucket,
  // or one block of them. Heavy rows stay as they are.
  std::optional<SketchGeometry> folded() const;
};

// The sketch of such a memory, without making it. Throws as make_memory does.
SketchGeometry planned_geometry(const StateMemoryContext&, const CountSketch&);
SketchGeometry planned_geometry(const StateMemoryContext&, const CountMin&);
// Of the cells, and of what the reading keeps with rows.
int64_t planned_sketch_bytes(const StateMemoryContext&, const CountSketch&);
int64_t planned_sketch_bytes(const StateMemoryContext&, const CountMin&);

// What the count-sketch and the count-min memory share. A reading (memory_spec.h) is one row of
// choices for kernels::SketchStep.
class SketchMemory : public StateMemory {
 public:
  kernels::StateAccess begin(StepRows&, const kernels::Accumulate&) override;
  void end(StepRows&) override;
  std::vector<std::pair<std::string, Tensor>> tensors() const override;
  void save(StateDict&, const std::string& prefix) const override;
  // Where the checkpoint's sketch or this one folds to the other, the memory goes on with the
  // narrower of both; otherwise throws InvalidArgument naming them.
  void load(const StateDict&, const std::string& prefix) override;
  // To half of the buckets, which take the sums of the two that fall together, or the means where
  // the reading keeps means. With the linear reading that is, to rounding, the sketch that this
  // width would have had from the beginning; the others, whose buckets change with what shares
  // them, go on from estimates of more rows.
  int64_t fold() override;
  int64_t foldable_bytes() const override;

  const SketchGeometry& geometry() const { return geometry_; }

  // values(r, :) += what a rule would read of table row ids[r], before a step's decay and input:
  // a step of these rows alone that advances nothing. The memory stays as it is, bit for bit (where
  // it is finite; a cell of -0 may become 0). ids [values.rows], strictly increasing, lies where
  // the memory does; values [K, dim]. Workspace: K (dim + row_floats) floats, and that of a step.
  void read(const int32_t* ids, kernels::Matrix values) const;

 protected:
  const std::string& name() const { return name_; }
  void scale_estimates(const StepRows&, float factor);
  SketchMemory(const StateMemoryContext&, SketchGeometry, Reading, int64_t row_floats);

 private:
  Tensor make_cells(const SketchGeometry&) const;
  kernels::Matrix row_state() const;
  // For a step: cells of few bits are rounded by its random bits.
  kernels::SketchView shared_cells(const Tensor& cells, const SketchGeometry&, int64_t step) const;
  kernels::SketchView all_cells(int64_t step) const;
  kernels::SketchState access(StepRows&, const kernels::SketchStep&,
                              kernels::Matrix row_state) const;
  bool keeps_means() const;
  kernels::SketchStep choices(const kernels::Accumulate&, int64_t step_number) const;

  std::string name_;
  MomentRole role_;
  SketchGeometry geometry_;
  Reading reading_;
  int64_t dim_ = 0;
  Device device_ = kCpu;
  uint64_t rounding_seed_ = 0;
  Tensor cells_;      // float32 or bfloat16 [depth, buckets, dim]
  Tensor row_state_;  // [rows, row_floats]: powers (wiener) or scales (row_scaled)
  Tensor row_ranks_;  // the table's, where they are used: geometry_.hash points to them
  std::optional<HeavyRows> heavy_;
  double cell_scale_ = 1.0;  // linear reading: true cells are cell_scale_ * cells_
  float decay_ = 1.0f;       // of the step that has begun
};

// Signed sketch for first moments; estimates are medians (Algorithm 1).
class CountSketchMemory final : public SketchMemory {
 public:
  CountSketchMemory(const StateMemoryContext&, const CountSketch&);

 private:
  CountSketchMemory(const StateMemoryContext&, const CountSketch&, Reading);
};

// Unsigned sketch for second moments; estimates are minima. An average takes signed changes, so
// that cells are clamped at zero and, unlike a count-min sketch of sums, may underestimate.
class CountMinMemory final : public SketchMemory {
 public:
  CountMinMemory(const StateMemoryContext&, const CountMin&);

  void end(StepRows&) override;
  void save(StateDict&, const std::string& prefix) const override;
  void load(const StateDict&, const std::string& prefix) override;

 private:
  CountMinMemory(const StateMemoryContext&, const CountMin&, Reading);

  Cleaning cleaning_;
  int64_t cleanings_ = 0;  // done so far
};

}  // namespace sketchgrad
