#pragma once

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lstm.h"
#include "sketchgrad/kernels/lstm_rules.h"

namespace sketchgrad::kernels {

// The device bodies behind lstm.h. Requires what lstm.cpp has checked.
namespace cpu {
void lstm_cell_forward(const Exec&, Matrix gates, const float* bias_input, const float* bias_hidden,
                       ConstMatrix c_previous, Matrix c, Matrix h);
void lstm_cell_backward(const Exec&, Matrix gates, ConstMatrix c_previous, ConstMatrix c,
                        ConstMatrix grad_h, Matrix grad_c);
}  // namespace cpu
namespace cuda {
void lstm_cell_forward(const Exec&, Matrix gates, const float* bias_input, const float* bias_hidden,
                       ConstMatrix c_previous, Matrix c, Matrix h);
void lstm_cell_backward(const Exec&, Matrix gates, ConstMatrix c_previous, ConstMatrix c,
                        ConstMatrix grad_h, Matrix grad_c);
}  // namespace cuda

namespace impl {

template <class Policy>
void lstm_cell_forward(const Policy& policy, Matrix gates, const float* bias_input,
                       const float* bias_hidden, ConstMatrix c_previous, Matrix c, Matrix h) {
  for_each_row(policy, c.rows, c.cols,
               LstmForward{gates, bias_input, bias_hidden, c_previous, c, h});
}

template <class Policy>
void lstm_cell_backward(const Policy& policy, Matrix gates, ConstMatrix c_previous, ConstMatrix c,
                        ConstMatrix grad_h, Matrix grad_c) {
  for_each_row(policy, c.rows, c.cols, LstmBackward{gates, c_previous, c, grad_h, grad_c});
}

}  // namespace impl
}  // namespace sketchgrad::kernels
