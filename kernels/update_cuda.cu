#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/update_impl.h"

namespace sketchgrad::kernels::cuda {

void update_rows(const Exec& exec, const UpdateRule& rule, const ElementAccess& first,
                 const ElementAccess& second, const int32_t* ids, ConstMatrix gradient,
                 Matrix parameter) {
  update_rows_impl(CudaPolicy{exec}, rule, first, second, ids, gradient, parameter);
}

}  // namespace sketchgrad::kernels::cuda
