#include "sketchgrad/kernels/sketch_impl.h"

namespace sketchgrad::kernels::cpu {

void sketch_slots(const Exec&, const SlotElement& element, int64_t rows) {
  for_each(TbbPolicy{}, rows, element);
}

void fold_sketch(const Exec&, const FoldBuckets& fold) {
  for_each_row(TbbPolicy{}, fold.to.depth * fold.to.width, fold.to.dim, fold);
}

void scale_sketch(const Exec&, const ScaleBuckets& scale) {
  for_each_row(TbbPolicy{}, scale.sketch.depth * scale.sketch.width, scale.sketch.dim, scale);
}

}  // namespace sketchgrad::kernels::cpu
