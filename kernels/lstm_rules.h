#pragma once

#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/math_rules.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

struct LstmGates {
  float input;
  float forget;
  float candidate;
  float output;
};

SG_HD LstmGates lstm_activate(LstmGates a) {
  return {fast_sigmoid(a.input), fast_sigmoid(a.forget), fast_tanh(a.candidate),
          fast_sigmoid(a.output)};
}

SG_HD float lstm_cell_state(LstmGates gates, float c_previous) {
  return gates.forget * c_previous + gates.input * gates.candidate;
}

struct LstmGradient {
  LstmGates gates;  // of the pre-activations
  float c_previous;
};

// From the activated gates; grad_c is the part that comes from the next step.
SG_HD LstmGradient lstm_cell_gradient(LstmGates gates, float c_previous, float c, float grad_h,
                                      float grad_c) {
  const float tanh_c = fast_tanh(c);
  const float grad_cell = grad_c + grad_h * gates.output * (1.0f - tanh_c * tanh_c);
  return {{grad_cell * gates.candidate * gates.input * (1.0f - gates.input),
           grad_cell * c_previous * gates.forget * (1.0f - gates.forget),
           grad_cell * gates.input * (1.0f - gates.candidate * gates.candidate),
           grad_h * tanh_c * gates.output * (1.0f - gates.output)},
          grad_cell * gates.forget};
}

// Loop bodies for for_each_row, over the batch and the H units.
struct LstmForward {
  Matrix gates;
  const float* bias_input;
  const float* bias_hidden;
  ConstMatrix c_previous;
  Matrix c;
  Matrix h;

  struct Column {
    float* gates;
    const float* bias_input;
    const float* bias_hidden;
    const float* c_previous;
    float* c;
    float* h;
    int64_t units;

    SG_HD float pre_activation(int64_t i) const {
      return gates[i] + (bias_input[i] + bias_hidden[i]);
    }
    SG_HD void operator()(int64_t j) const {
      const int64_t f = units + j, g = 2 * units + j, o = 3 * units + j;
      const LstmGates active = lstm_activate(
          {pre_activation(j), pre_activation(f), pre_activation(g), pre_activation(o)});
      const float cell = lstm_cell_state(active, c_previous[j]);
      gates[j] = active.input;
      gates[f] = active.forget;
      gates[g] = active.candidate;
      gates[o] = active.output;
      c[j] = cell;
      h[j] = active.output * fast_tanh(cell);
    }
  };
  SG_HD Column operator()(int64_t r) const {
    return {gates.row(r), bias_input, bias_hidden, c_previous.row(r), c.row(r), h.row(r), c.cols};
  }
};

struct LstmBackward {
  Matrix gates;
  ConstMatrix c_previous;
  ConstMatrix c;
  ConstMatrix grad_h;
  Matrix grad_c;

  struct Column {
    float* gates;
    const float* c_previous;
    const float* c;
    const float* grad_h;
    float* grad_c;
    int64_t units;

    SG_HD void operator()(int64_t j) const {
      const int64_t f = units + j, g = 2 * units + j, o = 3 * units + j;
      const LstmGradient grad = lstm_cell_gradient({gates[j], gates[f], gates[g], gates[o]},
                                                   c_previous[j], c[j], grad_h[j], grad_c[j]);
      gates[j] = grad.gates.input;
      gates[f] = grad.gates.forget;
      gates[g] = grad.gates.candidate;
      gates[o] = grad.gates.output;
      grad_c[j] = grad.c_previous;
    }
  };
  SG_HD Column operator()(int64_t r) const {
    return {gates.row(r), c_previous.row(r), c.row(r), grad_h.row(r), grad_c.row(r), c.cols};
  }
};

}  // namespace sketchgrad::kernels
