#include "sketchgrad/kernels/lstm_impl.h"

namespace sketchgrad::kernels::cpu {

void lstm_cell_forward(const Exec&, Matrix gates, const float* bias_input, const float* bias_hidden,
                       ConstMatrix c_previous, Matrix c, Matrix h) {
  impl::lstm_cell_forward(TbbPolicy{}, gates, bias_input, bias_hidden, c_previous, c, h);
}

void lstm_cell_backward(const Exec&, Matrix gates, ConstMatrix c_previous, ConstMatrix c,
                        ConstMatrix grad_h, Matrix grad_c) {
  impl::lstm_cell_backward(TbbPolicy{}, gates, c_previous, c, grad_h, grad_c);
}

}  // namespace sketchgrad::kernels::cpu
