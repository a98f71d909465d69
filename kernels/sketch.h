#pragma once

#include <array>
#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/sketch_rules.h"

// Reading and writing count-sketch tensors for the active rows of one step. Columns are
// independent: pass column ranges of all views (SketchView::columns, MatrixView::columns) to bound
// the workspace.
namespace sketchgrad::kernels {

// Where the rows of one step live in one geometry, and which of them share a bucket. Shared by all
// sketches of that geometry.
struct SketchPlan {
  int64_t rows = 0;
  int32_t depth = 0;
  const Slot* slots = nullptr;  // [depth, rows]
  std::array<Groups, kMaxSketchDepth> groups;
};

// Arrays that the caller gives to sketch_plan: for K rows, slots [depth, K]; keys, order [depth,
// K]; begin [depth, K + 1].
struct SketchPlanArrays {
  Slot* slots = nullptr;
  int32_t* keys = nullptr;
  int32_t* order = nullptr;
  int32_t* begin = nullptr;
};

// Entry r of the step is table row ids[r], or r where ids is null.
SketchPlan sketch_plan(const Exec&, uint64_t seed, int32_t depth, int64_t width, const int32_t* ids,
                       int64_t rows, SketchPlanArrays arrays);

// estimate(r, c) = scale * combine over j of (s_j S[j, h_j, c]); signs only where `with_signs`.
void sketch_estimate(const Exec&, SketchView, const SketchPlan&, Combine, bool with_signs,
                     float scale, Matrix estimate);

// Estimates by the median, and how far each row may trust its estimate: the depths are independent
// readings of the same values, so their disagreement over the row's columns measures what
// collisions did to it. With readings e_j over the columns given, v of them, their mean a and their
// median e,
//   noise = sum_j |e_j - a|^2 / (v (v - 1))
//   trust = clamp(1 - kTrustMargin * noise / |e|^2, 0, 1)   (see sketch_rules.h)
// A row's new value is decay * estimate + scale * u with
//   decay = trust * gamma,   scale = mass - trust * gamma * previous_mass,
// where mass is the sum of the weights that an exact x <- gamma x + c u gives to all inputs so far
// and previous_mass the same one step earlier. So each gradient keeps its full weight over time,
// whatever the sketch forgets: at trust 1 this is the exact rule, at trust 0 the rule without
// memory.
struct TrustRule {
  float gamma = 0;
  float mass = 0;
  float previous_mass = 0;
};
// depth >= 2. decay, scale: [K].
void sketch_estimate_trusted(const Exec&, SketchView, const SketchPlan&, const TrustRule&,
                             Matrix estimate, float* decay, float* scale);

// Coefficients of a sketch of profiles v / rho, where rho (one float a table row, exact) follows
// the row's mean input: rho_new = gamma rho + c mean_u. Advances rho of the active rows, and gives
// for
//   new value v = decay * e + c u,   change of the profile = estimate_weight * e + input_weight * u
// decay = gamma rho, estimate_weight = gamma rho / rho_new - 1, input_weight = c / rho_new (0 and 0
// where rho_new is 0 or too small to divide by). mean_inputs, decay and the weights: [K].
void row_scale_coefficients(const Exec&, const int32_t* ids, int64_t count,
                            const float* mean_inputs, const Accumulate& accumulate, float* rho,
                            float* decay, float* estimate_weight, float* input_weight);

// Every touched bucket takes its rows' changes as SketchWrite says; one writer a bucket, rows in
// order.
void sketch_write(const Exec&, SketchView, const SketchPlan&, bool with_signs, const SketchWrite&,
                  ConstMatrix estimate, ConstMatrix gradient);

}  // namespace sketchgrad::kernels
