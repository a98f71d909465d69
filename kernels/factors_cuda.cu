#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/factors_impl.h"
#include "sketchgrad/kernels/factors_lanes.h"

namespace sketchgrad::kernels::cuda {

void reduce_rows(const Exec& exec, const FactorElement& element, float* out) {
  reduce_factor_rows_by_lanes(CudaPolicy{exec}, element, out);
}
void reduce_columns(const Exec& exec, const FactorElement& element, float* out) {
  reduce_factor_columns_by_lanes(CudaPolicy{exec}, exec, element, out);
}
void sum_of_entries(const Exec& exec, const EntryElement& element, int64_t count, float* out) {
  sum_of_entries_by_lanes(CudaPolicy{exec}, exec, element, count, out);
}
void sum_of_products(const Exec& exec, const EntryProduct& element, int64_t count, double* out) {
  sum_of_products_by_lanes(CudaPolicy{exec}, exec, element, count, out);
}
void for_each_factor(const Exec& exec, const FactorLoop& loop, int64_t count) {
  impl::for_each_factor(CudaPolicy{exec}, loop, count);
}

}  // namespace sketchgrad::kernels::cuda
