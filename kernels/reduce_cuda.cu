#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/cuda_read.cuh"
#include "sketchgrad/kernels/reduce_impl.h"
#include "sketchgrad/kernels/reduce_lanes.h"

namespace sketchgrad::kernels::cuda {

double sum(const Exec& exec, const float* in, int64_t count) {
  return reduce_to_host(exec, count, MapElement<Value>{in}, Plus{}, 0.0);
}

double sum_of_squares(const Exec& exec, const float* in, int64_t count) {
  return reduce_to_host(exec, count, MapElement<Square>{in}, Plus{}, 0.0);
}

void scaled_sum(const Exec& exec, const float* in, int64_t count, double factor, float* out) {
  reduce_by_lanes(CudaPolicy{exec}, exec, count, MapElement<Value>{in}, Plus{}, 0.0,
                  StoreScaled{factor, out});
}

void add_sum_of_squares(const Exec& exec, const float* in, int64_t count, double* total) {
  reduce_by_lanes(CudaPolicy{exec}, exec, count, MapElement<Square>{in}, Plus{}, 0.0,
                  AddResult{total});
}

void clip_factor(const Exec& exec, const double* squares, double max_norm, float* norm,
                 float* factor) {
  for_each(CudaPolicy{exec}, 1, ClipFactor{squares, max_norm, norm, factor});
}

void add_column_sums(const Exec& exec, ConstMatrix in, float* out) {
  add_column_sums_by_lanes(CudaPolicy{exec}, exec, in, out);
}

}  // namespace sketchgrad::kernels::cuda
