#pragma once

#include <cstdint>
#include <string>

#include "sketchgrad/framework/tape.h"
#include "sketchgrad/layers/lstm.h"

// One layer of an LSTM over one segment, as the ways of computing it see it.
namespace sketchgrad {

struct LstmLayer {
  std::string name;    // "lstm"
  std::string suffix;  // "_l0"
  int64_t steps = 0;
  int64_t batch = 0;
  int64_t hidden = 0;
  int64_t output = 0;  // projection or hidden
  Variable x;          // [steps, batch, in]
  Variable weight_ih, weight_hh, bias_ih, bias_hh;
  Variable weight_hr;  // no value without projection

  bool projected() const { return weight_hr.value.defined(); }
  std::string full_name(const char* what) const { return name + "." + what + suffix; }
  Tensor make(Category category, const char* what, const Shape& shape) const {
    return Tensor::empty(shape, {category, full_name(what)}, DType::float32, x.value.device());
  }
};

// By kernels::lstm_layer_forward and its backward (cuDNN). h [batch, output] and c [batch, hidden]
// are the incoming state; what comes out is appended to `next`.
Variable forward_in_one_piece(Tape& tape, const LstmLayer& layer, const Tensor& h, const Tensor& c,
                              LstmState& next);

}  // namespace sketchgrad
