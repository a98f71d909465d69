#pragma once

#include <array>
#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/sketch_rules.h"

// Auxiliary variables in count-sketch tensors. update_rows (update.h) advances and reads them.
namespace sketchgrad::kernels {

// Where the rows of one step live in one geometry, and which of them share a bucket. Shared by all
// sketches of that geometry.
struct SketchPlan {
  int64_t rows = 0;
  int32_t depth = 0;
  int64_t width = 0;
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

// Buckets behind those of a sketch of one depth, each of one row: what it holds there is exact.
struct OwnBuckets {
  int64_t count = 0;
  const int32_t* slots = nullptr;  // [K]: below `count`; -1: the entry's row has none
};

// Entry r of the step is table row ids[r], or r where ids is null; it lives in the bucket that
// `hash` says, whose ranks lie on the device, or in bucket width + own.slots[r]. The plan's width
// counts both.
SketchPlan sketch_plan(const Exec&, const RowHash& hash, int32_t depth, int64_t width,
                       const OwnBuckets& own, const int32_t* ids, int64_t rows,
                       SketchPlanArrays arrays);

// to = the sketch of half as many buckets: with B the block of `unit` neighbouring buckets and i
// the place in it, to(B, i) = weight * (from(2 B, i) + from(2 B + 1, i)); the last block of an odd
// number is copied. With U the whole blocks of from, to has (U + 1) / 2; depth and dim are the
// same.
void fold_sketch(const Exec&, const SketchView& from, int64_t unit, float weight,
                 const SketchView& to);

// All cells times `factor`.
void scale_sketch(const Exec&, const SketchView& sketch, float factor);

// An access of update_rows: a variable in a sketch, advanced for the rows of `plan` as `step` says.
// The plan must outlive the update.
struct SketchState {
  SketchView sketch;
  const SketchPlan* plan = nullptr;
  SketchStep step;
  // [table rows, sketch_pieces(dim)]: powers or scales, where step.rows needs them
  Matrix row_state = {};
  int64_t own_buckets = 0;  // the last ones of the width are of one row each

  bool is_alone(Slot slot) const { return slot_bucket(slot) >= sketch.width - own_buckets; }
};

// Pieces in which a row of a sketched step is weighed: of sketch_piece_columns(dim) columns, the
// last one perhaps of fewer. About equal, multiples of 8; see kPieceColumns in sketch_rules.h.
int64_t sketch_piece_columns(int64_t dim);
int64_t sketch_pieces(int64_t dim);

}  // namespace sketchgrad::kernels
