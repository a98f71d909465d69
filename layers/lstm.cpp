#include "sketchgrad/layers/lstm.h"

#include <cmath>

#include "sketchgrad/framework/ops.h"
#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/lstm.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/layers/lstm_layer.h"

namespace sketchgrad {

namespace {

using kernels::Matrix;
using kernels::Transpose;

// One layer over one segment, step by step: what backward needs of the forward pass.
struct LayerRun : LstmLayer {
  explicit LayerRun(const LstmLayer& layer) : LstmLayer(layer) {}

  Tensor gates;        // [steps, batch, 4H]
  Tensor h;            // [1 + steps, batch, output]; the first entry is the incoming state
  Tensor c;            // [1 + steps, batch, H], likewise; [1, batch, H] where nothing is kept
  Tensor unprojected;  // [steps or 1, batch, H]: o * tanh(c); no value without projection

  // Entry `step` of a tensor over the steps. One that is not kept has a single entry, which each
  // step overwrites.
  Matrix at(const Tensor& all, int64_t step) const {
    const int64_t entry = all.size(0) == 1 ? 0 : step;
    return all.matrix().row_range(entry * batch, batch);
  }

  void allocate(bool keep);
  void forward(const Tensor& h_initial, const Tensor& c_initial);
  void backward(Tape& tape, const Tensor& grad_output) const;

  Tensor backward_steps(const Tensor& grad_output) const;
  void add_bias_gradients(Tape& tape) const;
  void add_input_gradient(Tape& tape) const;
  // Of a weight [m, n], from the gradient of its output [.., m] and its input [.., n].
  Tensor weight_gradient(const char* what, const Tensor& grad_output, const Tensor& input) const;
};

void LayerRun::allocate(bool keep) {
  const Category category = keep ? Category::activation : Category::workspace;
  gates = make(category, "gates", {steps, batch, 4 * hidden});
  h = make(Category::activation, "h", {1 + steps, batch, output});
  c = make(category, "c", {keep ? 1 + steps : 1, batch, hidden});
  if (projected()) unprojected = make(category, "unprojected", {keep ? steps : 1, batch, hidden});
}

void LayerRun::forward(const Tensor& h_initial, const Tensor& c_initial) {
  const kernels::Exec exec = x.value.exec();
  h.rows(0, 1).copy_from(h_initial.reshape({1, batch, output}));
  c.rows(0, 1).copy_from(c_initial.reshape({1, batch, hidden}));
  kernels::gemm(exec, Transpose::no, Transpose::yes, 1.0f, x.value.matrix(),
                weight_ih.value.matrix(), 0.0f, gates.matrix());
  for (int64_t t = 0; t < steps; ++t) {
    kernels::gemm(exec, Transpose::no, Transpose::yes, 1.0f, at(h, t), weight_hh.value.matrix(),
                  1.0f, at(gates, t));
    const Matrix cell_output = projected() ? at(unprojected, t) : at(h, t + 1);
    kernels::lstm_cell_forward(exec, at(gates, t), bias_ih.value.data<float>(),
                               bias_hh.value.data<float>(), at(c, t), at(c, t + 1), cell_output);
    if (projected()) {
      kernels::gemm(exec, Transpose::no, Transpose::yes, 1.0f, cell_output,
                    weight_hr.value.matrix(), 0.0f, at(h, t + 1));
    }
  }
}

void LayerRun::backward(Tape& tape, const Tensor& grad_output) const {
  const Tensor grad_h = backward_steps(grad_output);
  if (projected()) tape.add_gradient(weight_hr, weight_gradient("weight_hr", grad_h, unprojected));
  tape.add_gradient(weight_ih, weight_gradient("weight_ih", gates, x.value));
  tape.add_gradient(weight_hh, weight_gradient("weight_hh", gates, h.rows(0, steps)));
  add_bias_gradients(tape);
  add_input_gradient(tape);
}

// Leaves the gradient of the pre-activations in `gates` and returns that of h, of all steps where
// the projection's gradient needs them.
Tensor LayerRun::backward_steps(const Tensor& grad_output) const {
  const kernels::Exec exec = grad_output.exec();
  const Tensor grad_h =
      make(Category::workspace, "grad_h", {projected() ? steps : 1, batch, output});
  Tensor grad_unprojected;
  if (projected()) {
    grad_unprojected = make(Category::workspace, "grad_unprojected", {batch, hidden});
  }
  const Tensor grad_c = make(Category::workspace, "grad_c", {batch, hidden});
  grad_c.fill(0.0f);
  for (int64_t t = steps - 1; t >= 0; --t) {
    const Matrix grad_h_t = at(grad_h, t);
    kernels::copy(exec, at(grad_output, t).data, grad_h_t.data, batch * output);
    if (t + 1 < steps) {
      kernels::gemm(exec, Transpose::no, Transpose::no, 1.0f, at(gates, t + 1),
                    weight_hh.value.matrix(), 1.0f, grad_h_t);
    }
    Matrix grad_cell_output = grad_h_t;
    if (projected()) {
      grad_cell_output = grad_unprojected.matrix();
      kernels::gemm(exec, Transpose::no, Transpose::no, 1.0f, grad_h_t, weight_hr.value.matrix(),
                    0.0f, grad_cell_output);
    }
    kernels::lstm_cell_backward(exec, at(gates, t), at(c, t), at(c, t + 1), grad_cell_output,
                                grad_c.matrix());
  }
  return grad_h;
}

Tensor LayerRun::weight_gradient(const char* what, const Tensor& grad_output,
                                 const Tensor& input) const {
  const Tensor gradient = make(Category::gradient, what, {grad_output.size(-1), input.size(-1)});
  kernels::gemm(gradient.exec(), Transpose::yes, Transpose::no, 1.0f, grad_output.matrix(),
                input.matrix(), 0.0f, gradient.matrix());
  return gradient;
}

// Both biases have the same gradient; each gets a tensor of its own, which its optimizer may
// change.
void LayerRun::add_bias_gradients(Tape& tape) const {
  Tensor gradient = make(Category::gradient, "bias_ih", {4 * hidden});
  gradient.fill(0.0f);
  kernels::add_column_sums(gradient.exec(), gates.matrix(), gradient.data<float>());
  tape.add_gradient(bias_hh, gradient.clone({Category::gradient, full_name("bias_hh")}));
  tape.add_gradient(bias_ih, std::move(gradient));
}

void LayerRun::add_input_gradient(Tape& tape) const {
  if (!x.needs_gradient()) return;
  Tensor gradient = make(Category::gradient, "grad_x", x.value.shape());
  kernels::gemm(gradient.exec(), Transpose::no, Transpose::no, 1.0f, gates.matrix(),
                weight_ih.value.matrix(), 0.0f, gradient.matrix());
  tape.add_gradient(x, std::move(gradient));
}

// Without a copy the state would hold on to the segment's storage.
Tensor last_entry(const Tensor& all, const std::string& name) {
  const Tensor last = all.rows(all.size(0) - 1, 1);
  return last.reshape({all.size(1), all.size(2)}).clone({Category::data, name});
}

Variable forward_step_by_step(Tape& tape, const LstmLayer& layer, const Tensor& h, const Tensor& c,
                              LstmState& next) {
  LayerRun run(layer);
  run.allocate(tape.recording());
  run.forward(h, c);
  const std::string state_name = layer.name + ".state";
  next.h.push_back(last_entry(run.h, state_name));
  next.c.push_back(last_entry(run.c, state_name));
  return tape.record(
      layer.name, run.h.rows(1, run.steps),
      {&run.x, &run.weight_ih, &run.weight_hh, &run.bias_ih, &run.bias_hh, &run.weight_hr},
      [run](Tape& t, const Tensor& grad_output) { run.backward(t, grad_output); });
}

void check_state(const std::vector<Tensor>& state, const char* what, int64_t layers,
                 const Shape& shape) {
  check(static_cast<int64_t>(state.size()) == layers,
        "[lstm] a state of {} tensors {} for {} layers", state.size(), what, layers);
  for (const Tensor& entry : state) {
    check(entry.defined() && entry.shape() == shape, "[lstm] state {} has shape {}, it must be {}",
          what, entry.defined() ? to_string(entry.shape()) : "none", to_string(shape));
  }
}

void check_options(const LstmOptions& options) {
  check(options.input > 0 && options.hidden > 0 && options.layers > 0,
        "[lstm] input {}, hidden {} and layers {} must be at least 1", options.input,
        options.hidden, options.layers);
  check(options.projection >= 0, "[lstm] projection {} must not be negative", options.projection);
  check(options.dropout >= 0.0f && options.dropout < 1.0f, "[lstm] dropout {} is outside [0, 1)",
        options.dropout);
}

}  // namespace

Lstm::Lstm(const std::string& name, const LstmOptions& options, Rng& rng, Device device)
    : name_(name), options_(options), rng_(rng), device_(device) {
  check_options(options);
  const float range = 1.0f / std::sqrt(static_cast<float>(options.hidden));
  const auto add = [&](const char* what, int64_t layer, const Shape& shape) {
    Parameter& parameter =
        add_parameter(fmt::format("{}.{}_l{}", name, what, layer), shape, device);
    init_uniform(parameter, rng, -range, range);
    return &parameter;
  };
  const int64_t gates = 4 * options.hidden;
  for (int64_t k = 0; k < options.layers; ++k) {
    Layer layer;
    layer.weight_ih = add("weight_ih", k, {gates, k == 0 ? options.input : output_dim()});
    layer.weight_hh = add("weight_hh", k, {gates, output_dim()});
    layer.bias_ih = add("bias_ih", k, {gates});
    layer.bias_hh = add("bias_hh", k, {gates});
    if (options.projection > 0) {
      layer.weight_hr = add("weight_hr", k, {options.projection, options.hidden});
    }
    layers_.push_back(layer);
  }
}

int64_t Lstm::output_dim() const {
  return options_.projection > 0 ? options_.projection : options_.hidden;
}

LstmState Lstm::zero_state(int64_t batch) const {
  const std::string name = name_ + ".state";
  LstmState state;
  for (int64_t k = 0; k < options_.layers; ++k) {
    const auto zeros = [&](int64_t size) {
      return Tensor::zeros({batch, size}, {Category::data, name}, DType::float32, device_);
    };
    state.h.push_back(zeros(output_dim()));
    state.c.push_back(zeros(options_.hidden));
  }
  return state;
}

Variable Lstm::forward(Tape& tape, const Variable& x, LstmState& state) {
  check(x.value.dim() == 3 && x.value.size(2) == options_.input && x.value.numel() > 0,
        "[lstm] x has shape {}, it must be [steps, batch, {}] with steps and batch at least 1",
        to_string(x.value.shape()), options_.input);
  const int64_t batch = x.value.size(1);
  check_state(state.h, "h", options_.layers, {batch, output_dim()});
  check_state(state.c, "c", options_.layers, {batch, options_.hidden});

  LstmState next;
  Variable out = x;
  for (int64_t k = 0; k < options_.layers; ++k) {
    if (k > 0 && training() && options_.dropout > 0.0f) {
      out = dropout(tape, out, options_.dropout, rng_.next());
    }
    out = forward_layer(tape, out, k, state, next);
  }
  state = std::move(next);
  return out;
}

Variable Lstm::forward_layer(Tape& tape, const Variable& x, int64_t layer, const LstmState& state,
                             LstmState& next) {
  const MemoryScope scope(name_);
  const Layer& parameters = layers_[static_cast<size_t>(layer)];
  LstmLayer all;
  all.name = name_;
  all.suffix = fmt::format("_l{}", layer);
  all.steps = x.value.size(0);
  all.batch = x.value.size(1);
  all.hidden = options_.hidden;
  all.output = output_dim();
  all.x = x;
  all.weight_ih = tape.leaf(*parameters.weight_ih);
  all.weight_hh = tape.leaf(*parameters.weight_hh);
  all.bias_ih = tape.leaf(*parameters.bias_ih);
  all.bias_hh = tape.leaf(*parameters.bias_hh);
  if (parameters.weight_hr != nullptr) all.weight_hr = tape.leaf(*parameters.weight_hr);

  const Tensor& h = state.h[static_cast<size_t>(layer)];
  const Tensor& c = state.c[static_cast<size_t>(layer)];
  // cuDNN takes a projection as large as the layer for none.
  const bool in_one_piece =
      device_ == kCuda && !options_.step_by_step && options_.projection < options_.hidden;
  return in_one_piece ? forward_in_one_piece(tape, all, h, c, next)
                      : forward_step_by_step(tape, all, h, c, next);
}

}  // namespace sketchgrad
