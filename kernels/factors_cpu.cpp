#include "sketchgrad/kernels/factors_impl.h"

namespace sketchgrad::kernels::cpu {

void reduce_rows(const Exec&, const FactorElement& element, float* out) {
  impl::reduce_rows(TbbPolicy{}, element, out);
}
void reduce_columns(const Exec& exec, const FactorElement& element, float* out) {
  impl::reduce_columns(TbbPolicy{}, exec, element, out);
}
void sum_of_entries(const Exec& exec, const EntryElement& element, int64_t count, float* out) {
  impl::sum_of_entries(TbbPolicy{}, exec, element, count, out);
}
void sum_of_products(const Exec& exec, const EntryProduct& element, int64_t count, double* out) {
  impl::sum_of_entries(TbbPolicy{}, exec, element, count, out);
}
void for_each_factor(const Exec&, const FactorLoop& loop, int64_t count) {
  impl::for_each_factor(TbbPolicy{}, loop, count);
}

}  // namespace sketchgrad::kernels::cpu
