#include "sketchgrad/kernels/lstm_layer.h"
#include "sketchgrad/layers/lstm_layer.h"

namespace sketchgrad {

namespace {

const float* weight_data(const Variable& weight) {
  return weight.value.defined() ? weight.value.data<float>() : nullptr;
}

// What backward needs.
struct Run : LstmLayer {
  explicit Run(const LstmLayer& layer) : LstmLayer(layer) {}
  Tensor h;        // [batch, output], incoming
  Tensor c;        // [batch, hidden], incoming
  Tensor y;        // [steps, batch, output]
  Tensor reserve;  // cuDNN's

  kernels::LstmLayerShape shape() const {
    return {steps, batch, x.value.size(2), hidden, projected() ? output : 0};
  }
  kernels::LstmLayerArrays<const float> weights() const {
    return {weight_data(weight_ih), weight_data(weight_hh), weight_data(bias_ih),
            weight_data(bias_hh), weight_data(weight_hr)};
  }
  void backward(Tape& tape, const Tensor& grad_output) const;
};

void Run::backward(Tape& tape, const Tensor& grad_output) const {
  const auto like = [this](const char* what, const Variable& variable) {
    return variable.value.defined() ? make(Category::gradient, what, variable.value.shape())
                                    : Tensor();
  };
  const Tensor grad_x = x.needs_gradient() ? like("grad_x", x) : Tensor();
  const Tensor grads[] = {like("weight_ih", weight_ih), like("weight_hh", weight_hh),
                          like("bias_ih", bias_ih), like("bias_hh", bias_hh),
                          like("weight_hr", weight_hr)};
  const auto data = [](const Tensor& tensor) {
    return tensor.defined() ? tensor.data<float>() : nullptr;
  };
  kernels::lstm_layer_backward(
      y.exec(), shape(), weights(), x.value.data<float>(), h.data<float>(), c.data<float>(),
      y.data<float>(), grad_output.data<float>(), reserve.raw(), data(grad_x),
      {data(grads[0]), data(grads[1]), data(grads[2]), data(grads[3]), data(grads[4])});
  tape.add_gradient(weight_ih, grads[0]);
  tape.add_gradient(weight_hh, grads[1]);
  tape.add_gradient(bias_ih, grads[2]);
  tape.add_gradient(bias_hh, grads[3]);
  if (projected()) tape.add_gradient(weight_hr, grads[4]);
  if (x.needs_gradient()) tape.add_gradient(x, grad_x);
}

}  // namespace

Variable forward_in_one_piece(Tape& tape, const LstmLayer& layer, const Tensor& h, const Tensor& c,
                              LstmState& next) {
  Run run(layer);
  const kernels::Exec exec = layer.x.value.exec();
  const Device device = layer.x.value.device();
  const std::string state_name = layer.name + ".state";
  run.h = h;
  run.c = c;
  run.y = run.make(Category::activation, "y", {run.steps, run.batch, run.output});
  if (tape.recording()) {
    const int64_t bytes = kernels::lstm_layer_reserve_bytes(exec, run.shape());
    constexpr int64_t kWord = sizeof(int32_t);
    run.reserve =
        Tensor::empty({(bytes + kWord - 1) / kWord},
                      {Category::activation, run.full_name("reserve")}, DType::int32, device);
  }
  const auto state_like = [&](const Tensor& tensor) {
    return Tensor::empty(tensor.shape(), {Category::data, state_name}, DType::float32, device);
  };
  next.h.push_back(state_like(h));
  next.c.push_back(state_like(c));
  kernels::lstm_layer_forward(exec, run.shape(), run.weights(), run.x.value.data<float>(),
                              h.data<float>(), c.data<float>(), run.y.data<float>(),
                              next.h.back().data<float>(), next.c.back().data<float>(),
                              run.reserve.defined() ? run.reserve.raw() : nullptr);
  return tape.record(
      layer.name, run.y,
      {&run.x, &run.weight_ih, &run.weight_hh, &run.bias_ih, &run.bias_hh, &run.weight_hr},
      [run](Tape& t, const Tensor& grad_output) { run.backward(t, grad_output); });
}

}  // namespace sketchgrad
