#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/lstm_impl.h"

namespace sketchgrad::kernels::cuda {

void lstm_cell_forward(const Exec& exec, Matrix gates, const float* bias_input,
                       const float* bias_hidden, ConstMatrix c_previous, Matrix c, Matrix h) {
  impl::lstm_cell_forward(CudaPolicy{exec}, gates, bias_input, bias_hidden, c_previous, c, h);
}

void lstm_cell_backward(const Exec& exec, Matrix gates, ConstMatrix c_previous, ConstMatrix c,
                        ConstMatrix grad_h, Matrix grad_c) {
  impl::lstm_cell_backward(CudaPolicy{exec}, gates, c_previous, c, grad_h, grad_c);
}

}  // namespace sketchgrad::kernels::cuda
