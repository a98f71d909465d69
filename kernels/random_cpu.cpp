#include "sketchgrad/kernels/random_impl.h"

namespace sketchgrad::kernels::cpu {

void fill_uniform(const Exec&, PhiloxKey key, UniformRule rule, float* out, int64_t count) {
  impl::random_array(TbbPolicy{}, key, rule, out, count);
}

void dropout(const Exec&, PhiloxKey key, DropoutRule rule, float* out, int64_t count) {
  impl::random_array(TbbPolicy{}, key, rule, out, count);
}

}  // namespace sketchgrad::kernels::cpu
