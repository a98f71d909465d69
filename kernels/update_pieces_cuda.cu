#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/update_impl.h"
#include "sketchgrad/kernels/update_lanes.h"

namespace sketchgrad::kernels::cuda {

void update_pieces(const Exec& exec, const UpdateRule& rule, const StateAccess& first,
                   const StateAccess& second, const int32_t* ids, ConstMatrix gradient,
                   Matrix parameter) {
  update_pieces_by_lanes(CudaPolicy{exec}, exec, rule, first, second, ids, gradient, parameter);
}

}  // namespace sketchgrad::kernels::cuda
