#pragma once

#include <vector>

#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tape.h"

namespace sketchgrad {

struct LstmOptions {
  int64_t input = 0;
  int64_t hidden = 0;
  int64_t layers = 1;
  int64_t projection =
      0;              // 0: none; otherwise h = W_hr (o * tanh(c)) has this size (Sak et al. 2014)
  float dropout = 0;  // between layers, while training
  bool step_by_step = false;  // on CUDA, too: not by cuDNN, but with the kernels that the CPU has
};

// State carried from one segment to the next. Detached: no gradient flows through it (truncated
// BPTT). Its memory is counted as data: it outlives the tape and its activations.
struct LstmState {
  std::vector<Tensor> h;  // a layer: [batch, projection or hidden]
  std::vector<Tensor> c;  // a layer: [batch, hidden]
};

// Multi-layer LSTM, time first. Parameters a layer k, named and laid out as in PyTorch and cuDNN
// (gate order i, f, g, o): weight_ih_l{k} [4H, in], weight_hh_l{k} [4H, H or P], bias_ih_l{k} and
// bias_hh_l{k} [4H], weight_hr_l{k} [P, H] with a projection. Initialised uniformly in
// +-1/sqrt(hidden).
class Lstm : public Module {
 public:
  // `rng` must outlive the layer: it draws the dropout masks.
  Lstm(const std::string& name, const LstmOptions&, Rng& rng, Device = kCpu);

  LstmState zero_state(int64_t batch) const;
  // x [steps, batch, input] -> [steps, batch, projection or hidden]. `state` is read, then replaced
  // by the one after the last step.
  Variable forward(Tape&, const Variable& x, LstmState& state);

  int64_t output_dim() const;
  const LstmOptions& options() const { return options_; }

 private:
  struct Layer {
    Parameter* weight_ih;
    Parameter* weight_hh;
    Parameter* bias_ih;
    Parameter* bias_hh;
    Parameter* weight_hr = nullptr;  // null without projection
  };
  // Reads the layer's part of `state` and appends its part of `next`.
  Variable forward_layer(Tape&, const Variable& x, int64_t layer, const LstmState& state,
                         LstmState& next);

  std::string name_;
  LstmOptions options_;
  Rng& rng_;
  Device device_;
  std::vector<Layer> layers_;
};

}  // namespace sketchgrad
