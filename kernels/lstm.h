#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

// The pointwise part of an LSTM cell (Hochreiter & Schmidhuber 1997; gate order i, f, g, o and two
// bias vectors as in cuDNN and PyTorch). For each of `batch` sequences, with pre-activations a:
//   i = sigmoid(a_i)  f = sigmoid(a_f)  g = tanh(a_g)  o = sigmoid(a_o)
//   c = f * c_previous + i * g          h = o * tanh(c)
namespace sketchgrad::kernels {

// gates [batch, 4H]: in, pre-activations without biases; out, the activated i, f, g, o (for
// backward). bias_input, bias_hidden [4H]; c_previous, c, h [batch, H]. c may be c_previous.
void lstm_cell_forward(const Exec&, Matrix gates, const float* bias_input, const float* bias_hidden,
                       ConstMatrix c_previous, Matrix c, Matrix h);

// gates [batch, 4H]: in, activated; out, gradient of the pre-activations.
// grad_h [batch, H]: gradient of h. grad_c [batch, H]: in, gradient of c from the next step; out,
// gradient of c_previous.
void lstm_cell_backward(const Exec&, Matrix gates, ConstMatrix c_previous, ConstMatrix c,
                        ConstMatrix grad_h, Matrix grad_c);

}  // namespace sketchgrad::kernels
