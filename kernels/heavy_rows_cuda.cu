#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/heavy_rows_impl.h"

namespace sketchgrad::kernels::cuda {

void set_keys(const Exec& exec, const SetElement& element, int64_t rows) {
  for_each(CudaPolicy{exec}, rows, element);
}

void claim_slots(const Exec& exec, const ClaimOfSet& claim) {
  for_each(CudaPolicy{exec}, claim.groups.count, claim);
}

void move_to_slots(const Exec& exec, const MoveToSlot& move, int64_t units) {
  for_each(CudaPolicy{exec}, units, move);
}

}  // namespace sketchgrad::kernels::cuda
