#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"

// A whole LSTM layer over a segment of time steps, in one piece: cuDNN 9 on CUDA. There is none for
// the CPU, where the layer walks the steps itself (gemm.h, lstm.h); there these throw NotCompiled.
// Unless Exec::products is fp32, its products round their factors to TF32.
namespace sketchgrad::kernels {

struct LstmLayerShape {
  int64_t steps = 0;
  int64_t batch = 0;
  int64_t input = 0;
  int64_t hidden = 0;
  int64_t projection = 0;  // 0: none
  int64_t output() const { return projection > 0 ? projection : hidden; }
};

// Weights, or their gradients, laid out as in PyTorch: gates in the order i, f, g, o.
template <class T>
struct LstmLayerArrays {
  T* weight_ih = nullptr;  // [4H, input]
  T* weight_hh = nullptr;  // [4H, output]
  T* bias_ih = nullptr;    // [4H]
  T* bias_hh = nullptr;    // [4H]
  T* weight_hr = nullptr;  // [projection, H]; null without projection
};

// What forward leaves for backward.
int64_t lstm_layer_reserve_bytes(const Exec&, const LstmLayerShape&);

// x [steps, batch, input], h and c [batch, output] and [batch, H] -> y [steps, batch, output],
// h_next and c_next like h and c. reserve: null where no backward follows.
void lstm_layer_forward(const Exec&, const LstmLayerShape&, const LstmLayerArrays<const float>&,
                        const float* x, const float* h, const float* c, float* y, float* h_next,
                        float* c_next, void* reserve);

// The gradient of y gives that of x (null: not wanted) and, overwritten, those of the weights; none
// comes from or goes to the states. Once for each forward: the reserve is used up.
void lstm_layer_backward(const Exec&, const LstmLayerShape&, const LstmLayerArrays<const float>&,
                         const float* x, const float* h, const float* c, const float* y,
                         const float* grad_y, void* reserve, float* grad_x,
                         const LstmLayerArrays<float>& gradients);

}  // namespace sketchgrad::kernels
