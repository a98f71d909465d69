#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/sketch_impl.h"

namespace sketchgrad::kernels::cuda {

void sketch_slots(const Exec& exec, const SlotElement& element, int64_t rows) {
  for_each(CudaPolicy{exec}, rows, element);
}

void fold_sketch(const Exec& exec, const FoldBuckets& fold) {
  for_each_row(CudaPolicy{exec}, fold.to.depth * fold.to.width, fold.to.dim, fold);
}

void scale_sketch(const Exec& exec, const ScaleBuckets& scale) {
  for_each_row(CudaPolicy{exec}, scale.sketch.depth * scale.sketch.width, scale.sketch.dim, scale);
}

}  // namespace sketchgrad::kernels::cuda
