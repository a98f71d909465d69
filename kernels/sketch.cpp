#include "sketchgrad/kernels/sketch.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/sketch_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_geometry(const char* op, int32_t depth, int64_t width) {
  if (depth < 1 || depth > kMaxSketchDepth) {
    refuse(op, "depth {} is outside 1 to {}", depth, kMaxSketchDepth);
  }
  if (width < 1 || width >= int64_t{kSlotSign}) {
    refuse(op, "width {} is outside 1 to 2^31 - 1", width);
  }
}

void check_entries(const char* op, const char* name, SketchView sketch, const SketchPlan& plan,
                   ConstMatrix entries) {
  check_geometry(op, sketch.depth, sketch.width);
  if (sketch.depth != plan.depth) {
    refuse(op, "sketch of depth {} with a plan of depth {}", sketch.depth, plan.depth);
  }
  check_matrix(op, name, entries);
  if (entries.rows != plan.rows || entries.cols != sketch.dim) {
    refuse(op, "{} [{}, {}] must be [{}, {}]", name, entries.rows, entries.cols, plan.rows,
           sketch.dim);
  }
}

}  // namespace

SketchPlan sketch_plan(const Exec& exec, uint64_t seed, int32_t depth, int64_t width,
                       const int32_t* ids, int64_t rows, SketchPlanArrays arrays) {
  const char* op = "sketch_plan";
  require_cpu(exec, op);
  check_geometry(op, depth, width);
  check_count(op, "rows", rows);
  SketchPlan plan{rows, depth, arrays.slots, {}};
  const ScratchArray<int32_t> buckets(exec, rows, "sketch.buckets");
  for (int32_t j = 0; j < depth; ++j) {
    cpu::sketch_slots(exec, {seed, j, width, ids, arrays.slots + j * rows, buckets.data()}, rows);
    plan.groups[static_cast<size_t>(j)] =
        group_by_key(exec, buckets.data(), rows, width, arrays.keys + j * rows,
                     arrays.begin + j * (rows + 1), arrays.order + j * rows);
  }
  return plan;
}

void sketch_estimate(const Exec& exec, SketchView sketch, const SketchPlan& plan, Combine combine,
                     bool with_signs, float scale, Matrix estimate) {
  require_cpu(exec, "sketch_estimate");
  check_entries("sketch_estimate", "estimate", sketch, plan, estimate);
  cpu::sketch_estimate(exec, sketch, plan, combine, with_signs, scale, estimate);
}

void sketch_estimate_trusted(const Exec& exec, SketchView sketch, const SketchPlan& plan,
                             const TrustRule& rule, Matrix estimate, float* decay, float* scale) {
  const char* op = "sketch_estimate_trusted";
  require_cpu(exec, op);
  check_entries(op, "estimate", sketch, plan, estimate);
  if (plan.depth < 2) refuse(op, "depth {} has no second reading to compare with", plan.depth);
  check_array(op, "decay", decay, plan.rows);
  check_array(op, "scale", scale, plan.rows);
  cpu::sketch_estimate_trusted(exec, sketch, plan, rule, estimate, decay, scale);
}

void row_scale_coefficients(const Exec& exec, const int32_t* ids, int64_t count,
                            const float* mean_inputs, const Accumulate& accumulate, float* rho,
                            float* decay, float* estimate_weight, float* input_weight) {
  const char* op = "row_scale_coefficients";
  require_cpu(exec, op);
  check_count(op, "count", count);
  cpu::row_scale_coefficients(
      exec, {ids, mean_inputs, accumulate, rho, decay, estimate_weight, input_weight}, count);
}

void sketch_write(const Exec& exec, SketchView sketch, const SketchPlan& plan, bool with_signs,
                  const SketchWrite& write, ConstMatrix estimate, ConstMatrix gradient) {
  require_cpu(exec, "sketch_write");
  check_entries("sketch_write", "estimate", sketch, plan, estimate);
  check_entries("sketch_write", "gradient", sketch, plan, gradient);
  cpu::sketch_write(exec, sketch, plan, with_signs, write, estimate, gradient);
}

}  // namespace sketchgrad::kernels
