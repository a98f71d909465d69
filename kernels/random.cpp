#include "sketchgrad/kernels/random.h"

#include <cmath>

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/random_impl.h"

namespace sketchgrad::kernels {

void fill_uniform(const Exec& exec, PhiloxKey key, float low, float high, float* out,
                  int64_t count) {
  check_count("fill_uniform", "count", count);
  check_array("fill_uniform", "out", out, count);
  const float range = high - low;
  if (!(range > 0.0f) || !std::isfinite(range)) {
    refuse("fill_uniform", "range [{}, {}) must be finite and not empty", low, high);
  }
  dispatch(exec, cpu::fill_uniform, cuda::fill_uniform, key,
           UniformRule{low, range, std::nextafter(high, low)}, out, count);
}

void dropout(const Exec& exec, PhiloxKey key, float probability, const float* in, float* out,
             int64_t count) {
  check_count("dropout", "count", count);
  check_array("dropout", "in", in, count);
  check_array("dropout", "out", out, count);
  if (!(probability >= 0.0f && probability < 1.0f)) {
    refuse("dropout", "probability {} is outside [0, 1)", probability);
  }
  const auto threshold = static_cast<uint32_t>(static_cast<double>(probability) * 4294967296.0);
  dispatch(exec, cpu::dropout, cuda::dropout, key,
           DropoutRule{in, threshold, 1.0f / (1.0f - probability)}, out, count);
}

}  // namespace sketchgrad::kernels
