#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/random_rules.h"

namespace sketchgrad::kernels {

// The device bodies behind random.h.
namespace cpu {
void fill_uniform(const Exec&, PhiloxKey key, UniformRule rule, float* out, int64_t count);
void dropout(const Exec&, PhiloxKey key, DropoutRule rule, float* out, int64_t count);
}  // namespace cpu
namespace cuda {
void fill_uniform(const Exec&, PhiloxKey key, UniformRule rule, float* out, int64_t count);
void dropout(const Exec&, PhiloxKey key, DropoutRule rule, float* out, int64_t count);
}  // namespace cuda

namespace impl {

template <class Policy, class Rule>
void random_array(const Policy& policy, PhiloxKey key, const Rule& rule, float* out,
                  int64_t count) {
  const int64_t blocks = count / 4;
  for_each(policy, blocks, RandomBlock<Rule>{key, rule, out});
  for_each(policy, count - 4 * blocks, RandomElement<Rule>{key, rule, out, 4 * blocks});
}

}  // namespace impl
}  // namespace sketchgrad::kernels
