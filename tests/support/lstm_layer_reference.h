#pragma once

#include "sketchgrad/kernels/lstm_layer.h"

// Test support: what kernels/lstm_layer.h describes, in plain loops over memory of the host, for
// comparison with cuDNN and to stand in for it.
namespace sketchgrad::test {

// Floats of the reserve; forward always writes it.
int64_t lstm_reference_reserve_floats(const kernels::LstmLayerShape&);

void lstm_reference_forward(const kernels::LstmLayerShape&,
                            const kernels::LstmLayerArrays<const float>&, const float* x,
                            const float* h, const float* c, float* y, float* h_next, float* c_next,
                            float* reserve);

void lstm_reference_backward(const kernels::LstmLayerShape&,
                             const kernels::LstmLayerArrays<const float>&, const float* x,
                             const float* h, const float* c, const float* y, const float* grad_y,
                             const float* reserve, float* grad_x,
                             const kernels::LstmLayerArrays<float>& gradients);

}  // namespace sketchgrad::test
