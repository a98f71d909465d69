#include "sketchgrad/kernels/sketch.h"

#include <algorithm>

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/sketch_impl.h"

namespace sketchgrad::kernels {

SketchPlan sketch_plan(const Exec& exec, const RowHash& hash, int32_t depth, int64_t width,
                       const OwnBuckets& own, const int32_t* ids, int64_t rows,
                       SketchPlanArrays arrays) {
  const char* op = "sketch_plan";
  if (depth < 1 || depth > kMaxSketchDepth) {
    refuse(op, "depth {} is outside 1 to {}", depth, kMaxSketchDepth);
  }
  const int64_t buckets_a_depth = width + own.count;
  if (width < 1 || own.count < 0 || buckets_a_depth >= int64_t{kSlotSign}) {
    refuse(op, "width {} and {} buckets of single rows are outside 1 to 2^31 - 1", width,
           own.count);
  }
  if (own.count > 0 && depth != 1) refuse(op, "depth {} with buckets of single rows", depth);
  check_count(op, "rows", rows);
  if (hash.band_rows < 0 || (hash.band_rows > 0 && hash.band_rows > INT32_MAX)) {
    refuse(op, "bands of a table of {} rows, at most {}", hash.band_rows, INT32_MAX);
  }
  if (hash.ranks != nullptr && hash.band_rows == 0) refuse(op, "an order of rows without bands");
  check_array(op, "own.slots", own.slots, own.count > 0 ? rows : 0);
  SketchPlan plan{rows, depth, buckets_a_depth, arrays.slots, {}};
  const ScratchArray<int32_t> buckets(exec, rows, "sketch.buckets", ScratchKind::indices);
  for (int32_t j = 0; j < depth; ++j) {
    dispatch_indices(exec, cpu::sketch_slots, cuda::sketch_slots,
                     SlotElement{hash, j, width, own.count > 0 ? own.slots : nullptr, ids,
                                 arrays.slots + j * rows, buckets.data()},
                     rows);
    plan.groups[static_cast<size_t>(j)] =
        group_by_key(exec, buckets.data(), rows, buckets_a_depth, arrays.keys + j * rows,
                     arrays.begin + j * (rows + 1), arrays.order + j * rows);
  }
  return plan;
}

namespace {
void check_cells(const char* op, const char* name, const SketchView& sketch) {
  const void* const cells = sketch.bf16 != nullptr ? static_cast<const void*>(sketch.bf16)
                                                   : static_cast<const void*>(sketch.cells);
  check_array(op, name, cells, sketch.depth * sketch.width * sketch.dim);
}
}  // namespace

void scale_sketch(const Exec& exec, const SketchView& sketch, float factor) {
  check_cells("scale_sketch", "sketch", sketch);
  dispatch(exec, cpu::scale_sketch, cuda::scale_sketch, ScaleBuckets{sketch, factor});
}

void fold_sketch(const Exec& exec, const SketchView& from, int64_t unit, float weight,
                 const SketchView& to) {
  const char* op = "fold_sketch";
  if (unit < 1 || to.width != (from.width / unit + 1) / 2 * unit || to.depth != from.depth ||
      to.dim != from.dim) {
    refuse(op, "[{}, {}, {}] does not fold to [{}, {}, {}] by units of {}", from.depth, from.width,
           from.dim, to.depth, to.width, to.dim, unit);
  }
  check_cells(op, "from", from);
  check_cells(op, "to", to);
  dispatch(exec, cpu::fold_sketch, cuda::fold_sketch, FoldBuckets{from, unit, weight, to});
}

int64_t sketch_piece_columns(int64_t dim) {
  constexpr int64_t kAlignment = 8;
  const auto pieces_of = [dim](int64_t columns) { return (dim + columns - 1) / columns; };
  const int64_t pieces = std::max(
      {std::min(pieces_of(kPieceColumns), kPiecesOfRow), pieces_of(kWidestPiece), int64_t{1}});
  const int64_t columns = (dim + pieces - 1) / pieces;
  return std::min(dim, (columns + kAlignment - 1) / kAlignment * kAlignment);
}

int64_t sketch_pieces(int64_t dim) {
  const int64_t columns = std::max<int64_t>(1, sketch_piece_columns(dim));
  return (dim + columns - 1) / columns;
}

}  // namespace sketchgrad::kernels
