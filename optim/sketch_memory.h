#pragma once

#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad {

// Geometry of a count-sketch tensor for a table [rows, dim].
struct SketchGeometry {
  int32_t depth = 0;
  int64_t width = 0;  // buckets a depth
  uint64_t seed = 0;

  // The widest sketch whose bytes, with `row_floats` further floats a table row, are at most
  // `ratio` of the dense state's. Throws InvalidArgument with the smallest ratio that works if none
  // is.
  static SketchGeometry fit(const StateMemoryContext&, double ratio, int32_t depth,
                            int64_t row_floats);
};

// What the count-sketch and the count-min memory share: the cells, and the walk of one step over
// them (estimate, write), of which the readings are choices.
class SketchMemory : public StateMemory {
 public:
  void begin(StepRows&, const kernels::Accumulate&) override;
  kernels::StateAccess advance(StepRows&, int64_t begin, int64_t count) override;
  void end(StepRows&) override;
  bool tiled() const override { return true; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override;
  void save(StateDict&, const std::string& prefix) const override;
  void load(const StateDict&, const std::string& prefix) override;

  const SketchGeometry& geometry() const { return geometry_; }

 protected:
  SketchMemory(const StateMemoryContext&, SketchGeometry, Reading);

  virtual bool with_signs() const = 0;
  virtual kernels::Combine combine() const = 0;
  virtual bool clamp_at_zero() const = 0;

  // Estimates of the columns' old values, and how a row's new value follows from them.
  virtual kernels::EstimatedState read(StepRows&, kernels::SketchView, kernels::Matrix estimate);
  // How the buckets take in the step.
  virtual kernels::SketchWrite change() const;

  const kernels::SketchPlan& plan(StepRows&) const;
  kernels::Accumulate accumulate() const { return accumulate_; }
  Reading reading() const { return reading_; }
  Tensor cells() const { return cells_; }
  // A float a row of the step, for index 0 to 2.
  float* row_workspace(int64_t index) const;

 private:
  std::string name_;
  SketchGeometry geometry_;
  Reading reading_;
  Tensor cells_;             // [depth, width, dim]
  double cell_scale_ = 1.0;  // linear reading: true cells are cell_scale_ * cells_
  kernels::Accumulate accumulate_;
  Tensor estimate_;    // workspace of the step: [K, tile]
  Tensor row_values_;  // workspace of the step: [3, K]
};

// Signed sketch for first moments; estimates are medians (Algorithm 1).
//
// Reading `trusted` (this project): a row's new value is
//   x = trust decay e + (mass_t - trust decay mass_{t-1}) u,   mass_t = scale (1 - decay^t) / (1 -
//   decay)
// with the trust of kernels/sketch.h, per row and tile of columns. A signed sketch loses a first
// moment where many active rows share a bucket; the other readings then leave a row a fraction (1 -
// beta1) of its gradient and the noise of its neighbours, `trusted` degrades to the rule without
// first moment.
class CountSketchMemory final : public SketchMemory {
 public:
  CountSketchMemory(const StateMemoryContext&, const CountSketch&);

 private:
  bool with_signs() const override { return true; }
  kernels::Combine combine() const override { return kernels::Combine::median; }
  bool clamp_at_zero() const override { return false; }
  kernels::EstimatedState read(StepRows&, kernels::SketchView, kernels::Matrix estimate) override;
};

// Unsigned sketch for second moments; estimates are minima. An average takes signed changes, so
// that cells are clamped at zero and, unlike a count-min sketch of sums, may underestimate.
//
// Reading `row_scaled` (this project): rows that share a bucket differ in scale far more than in
// shape, so one exact float a row holds the scale (the mean of v over the row) and the sketch holds
// the means of the profiles v / scale. A row's first step is exact.
class CountMinMemory final : public SketchMemory {
 public:
  CountMinMemory(const StateMemoryContext&, const CountMin&);

  void begin(StepRows&, const kernels::Accumulate&) override;
  void end(StepRows&) override;
  std::vector<std::pair<std::string, Tensor>> tensors() const override;
  void save(StateDict&, const std::string& prefix) const override;
  void load(const StateDict&, const std::string& prefix) override;

 private:
  bool with_signs() const override { return false; }
  kernels::Combine combine() const override;
  bool clamp_at_zero() const override { return true; }
  kernels::EstimatedState read(StepRows&, kernels::SketchView, kernels::Matrix estimate) override;
  kernels::SketchWrite change() const override;

  Cleaning cleaning_;
  int64_t cleanings_ = 0;  // done so far
  Tensor row_scale_;       // [rows], only for row_scaled
};

}  // namespace sketchgrad
