#include "sketchgrad/kernels/lstm_layer.h"

#include <cstdint>
#include <limits>

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/lstm_layer_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_layer(const char* op, const Exec& exec, const LstmLayerShape& shape) {
  if (exec.device != DeviceKind::cuda) {
    throw NotCompiled(std::string("[") + op + "] is there for CUDA only");
  }
  // Zero is for no projection only; cuDNN counts in 32 bits.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  for (const int64_t size : {shape.steps, shape.batch, shape.input, shape.hidden}) {
    if (size < 1 || size > kMost) refuse(op, "size {} is outside 1 to 2^31 - 1", size);
  }
  if (shape.projection < 0 || shape.projection >= shape.hidden) {
    refuse(op, "projection {} is outside 0 to {}, below hidden", shape.projection,
           shape.hidden - 1);
  }
}

template <class T>
void check_arrays(const char* op, const LstmLayerShape& shape, const LstmLayerArrays<T>& arrays) {
  check_array(op, "weight_ih", arrays.weight_ih, 1);
  check_array(op, "weight_hh", arrays.weight_hh, 1);
  check_array(op, "bias_ih", arrays.bias_ih, 1);
  check_array(op, "bias_hh", arrays.bias_hh, 1);
  check_array(op, "weight_hr", arrays.weight_hr, shape.projection);
}

}  // namespace

int64_t lstm_layer_reserve_bytes(const Exec& exec, const LstmLayerShape& shape) {
  check_layer("lstm_layer_reserve_bytes", exec, shape);
  return cuda::lstm_layer_reserve_bytes(exec, shape);
}

void lstm_layer_forward(const Exec& exec, const LstmLayerShape& shape,
                        const LstmLayerArrays<const float>& weights, const float* x, const float* h,
                        const float* c, float* y, float* h_next, float* c_next, void* reserve) {
  constexpr const char* kOp = "lstm_layer_forward";
  check_layer(kOp, exec, shape);
  check_arrays(kOp, shape, weights);
  for (const float* array : {x, h, c}) check_array(kOp, "an input", array, 1);
  for (const float* array : {y, h_next, c_next}) check_array(kOp, "an output", array, 1);
  cuda::lstm_layer_forward(exec, shape, weights, x, h, c, y, h_next, c_next, reserve);
}

void lstm_layer_backward(const Exec& exec, const LstmLayerShape& shape,
                         const LstmLayerArrays<const float>& weights, const float* x,
                         const float* h, const float* c, const float* y, const float* grad_y,
                         void* reserve, float* grad_x, const LstmLayerArrays<float>& gradients) {
  constexpr const char* kOp = "lstm_layer_backward";
  check_layer(kOp, exec, shape);
  check_arrays(kOp, shape, weights);
  check_arrays(kOp, shape, gradients);
  for (const float* array : {x, h, c, y, grad_y}) check_array(kOp, "an input", array, 1);
  check_array(kOp, "reserve", reserve, 1);
  cuda::lstm_layer_backward(exec, shape, weights, x, h, c, y, grad_y, reserve, grad_x, gradients);
}

}  // namespace sketchgrad::kernels
