#include "sketchgrad/kernels/heavy_rows.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/heavy_rows_impl.h"

namespace sketchgrad::kernels {

void claim_slots(const Exec& exec, const HeavySets& sets, const int32_t* ids, const float* weights,
                 int64_t rows, int64_t step, const HeavyClaims& claims) {
  const char* op = "claim_slots";
  check_count(op, "rows", rows);
  if (sets.sets < 1 || sets.sets > INT32_MAX / kSetWays) {
    refuse(op, "{} sets are outside 1 to {}", sets.sets, INT32_MAX / kSetWays);
  }
  check_array(op, "owners", sets.owners, sets.sets * kSetWays);
  check_array(op, "set weights", sets.weights, sets.sets * kSetWays);
  check_array(op, "weights", weights, rows);
  check_array(op, "slots", claims.slots, rows);
  check_array(op, "previous", claims.previous, rows);
  if (rows == 0) return;
  const auto indices = [&](int64_t count, const char* name) {
    return ScratchArray<int32_t>(exec, count, name, ScratchKind::indices);
  };
  const ScratchArray<int32_t> of_entries = indices(rows, "heavy.sets");
  const ScratchArray<int32_t> keys = indices(rows, "heavy.keys");
  const ScratchArray<int32_t> begin = indices(rows + 1, "heavy.begin");
  const ScratchArray<int32_t> order = indices(rows, "heavy.order");
  dispatch_indices(exec, cpu::set_keys, cuda::set_keys, SetElement{sets, ids, of_entries.data()},
                   rows);
  const Groups groups = group_by_key(exec, of_entries.data(), rows, sets.sets, keys.data(),
                                     begin.data(), order.data());
  dispatch_indices(
      exec, cpu::claim_slots, cuda::claim_slots,
      ClaimOfSet{sets, groups, ids, weights, {sets.seed, static_cast<uint64_t>(step)}, claims});
}

void move_to_slots(const Exec& exec, const SketchView& sketch, const RowHash& hash,
                   const SketchStep& step, Matrix row_state, const int32_t* ids, int64_t rows,
                   const HeavyClaims& claims) {
  const char* op = "move_to_slots";
  check_count(op, "rows", rows);
  if (sketch.depth != 1) refuse(op, "a sketch of depth {}, it must be 1", sketch.depth);
  check_array(op, "cells", sketch.cells, sketch.width * sketch.dim);
  check_array(op, "slots", claims.slots, rows);
  check_array(op, "previous", claims.previous, rows);
  const int64_t pieces = sketch_pieces(sketch.dim);
  const bool with_state = step.rows != RowWeights::constant;
  if (with_state && row_state.cols != pieces) {
    refuse(op, "row state has {} columns for {} pieces", row_state.cols, pieces);
  }
  dispatch(exec, cpu::move_to_slots, cuda::move_to_slots,
           MoveToSlot{sketch, hash, step.with_signs, step.rows, row_state, ids, claims,
                      sketch_piece_columns(sketch.dim), pieces},
           sketch.dim > 0 ? rows * pieces : 0);
}

}  // namespace sketchgrad::kernels
