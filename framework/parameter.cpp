#include "sketchgrad/framework/parameter.h"

#include "sketchgrad/kernels/random.h"

namespace sketchgrad {

void init_uniform(Parameter& parameter, Rng& rng, float low, float high) {
  const Tensor& value = parameter.value;
  kernels::fill_uniform(value.exec(), rng.next(), low, high, value.data<float>(), value.numel());
}

}  // namespace sketchgrad
