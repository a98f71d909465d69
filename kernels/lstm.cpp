#include "sketchgrad/kernels/lstm.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/lstm_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_shape(const char* op, const char* name, ConstMatrix matrix, int64_t rows, int64_t cols) {
  check_matrix(op, name, matrix);
  if (matrix.rows != rows || matrix.cols != cols) {
    refuse(op, "{} is [{}, {}], it must be [{}, {}] like c", name, matrix.rows, matrix.cols, rows,
           cols);
  }
}

void check_gates(const char* op, ConstMatrix gates, ConstMatrix c) {
  check_matrix(op, "c", c);
  check_matrix(op, "gates", gates);
  if (gates.rows != c.rows || gates.cols != 4 * c.cols) {
    refuse(op, "gates are [{}, {}], they must be [{}, {}], 4 for each of c's columns", gates.rows,
           gates.cols, c.rows, 4 * c.cols);
  }
}

}  // namespace

void lstm_cell_forward(const Exec& exec, Matrix gates, const float* bias_input,
                       const float* bias_hidden, ConstMatrix c_previous, Matrix c, Matrix h) {
  constexpr const char* kOp = "lstm_cell_forward";
  check_gates(kOp, gates, c);
  check_shape(kOp, "c_previous", c_previous, c.rows, c.cols);
  check_shape(kOp, "h", h, c.rows, c.cols);
  check_array(kOp, "bias_input", bias_input, gates.rows > 0 ? gates.cols : 0);
  check_array(kOp, "bias_hidden", bias_hidden, gates.rows > 0 ? gates.cols : 0);
  dispatch(exec, cpu::lstm_cell_forward, cuda::lstm_cell_forward, gates, bias_input, bias_hidden,
           c_previous, c, h);
}

void lstm_cell_backward(const Exec& exec, Matrix gates, ConstMatrix c_previous, ConstMatrix c,
                        ConstMatrix grad_h, Matrix grad_c) {
  constexpr const char* kOp = "lstm_cell_backward";
  check_gates(kOp, gates, c);
  check_shape(kOp, "c_previous", c_previous, c.rows, c.cols);
  check_shape(kOp, "grad_h", grad_h, c.rows, c.cols);
  check_shape(kOp, "grad_c", grad_c, c.rows, c.cols);
  dispatch(exec, cpu::lstm_cell_backward, cuda::lstm_cell_backward, gates, c_previous, c, grad_h,
           grad_c);
}

}  // namespace sketchgrad::kernels
