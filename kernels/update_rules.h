#pragma once

#include <cmath>
#include <cstdint>
#include <variant>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/views.h"

// The per-element mathematics of optimizer steps: `rules` (how a parameter moves, given its
// auxiliary values) and `accesses` (how an auxiliary value is advanced and read). update.h combines
// any rule with any two accesses, these or a sketch (sketch.h).
namespace sketchgrad::kernels {

// How an auxiliary variable takes in a gradient: x <- decay * x + scale * u, u = g or g^2.
struct Accumulate {
  float decay = 0;
  float scale = 1;
  bool squared = false;

  template <class T>  // a float, or floats side by side
  SG_HD T input(T g) const {
    return squared ? g * g : g;
  }
};

// ---- Rules: the parameter's new value from w, its gradient g, first moment m and second moment v.

// w - lr g
struct SgdRule {
  float learning_rate;
  SG_HD float operator()(float w, float g, float, float) const { return w - learning_rate * g; }
};

// Heavy ball (Polyak 1964): m <- momentum m + g, w - lr m. Nesterov (Sutskever et al. 2013):
// w - lr (g + momentum m).
struct MomentumRule {
  float learning_rate;
  float gradient_weight;  // 0, or 1 for Nesterov
  float momentum_weight;  // 1, or the momentum for Nesterov
  SG_HD float operator()(float w, float g, float m, float) const {
    return w - learning_rate * (gradient_weight * g + momentum_weight * m);
  }
};

// Adagrad (Duchi et al. 2011: v <- v + g^2) and RMSprop (Tieleman & Hinton 2012: v an average of
// g^2): w - lr g / (sqrt(initial + v) + epsilon). `initial` is what Adagrad's v begins with, kept
// apart from it so that no memory has to hold it for every row. As in PyTorch epsilon stands
// outside the root; the count-sketch paper's Algorithm 3 has it inside.
struct RootScaledRule {
  float learning_rate;
  float epsilon;
  float initial = 0.0f;
  SG_HD float operator()(float w, float g, float, float v) const {
    return w - learning_rate * g / (sqrtf(initial + v) + epsilon);
  }
};

// Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019):
//   w (1 - lr weight_decay) - lr (m / c1) / (sqrt(v / c2) + epsilon),  c_k = 1 - beta_k^t.
struct AdamRule {
  float step_size;                // lr / c1
  float inverse_sqrt_correction;  // 1 / sqrt(c2)
  float epsilon;
  float keep;  // 1 - lr weight_decay
  SG_HD float operator()(float w, float, float m, float v) const {
    return keep * w - step_size * m / (sqrtf(v) * inverse_sqrt_correction + epsilon);
  }
};

using UpdateRule = std::variant<SgdRule, MomentumRule, RootScaledRule, AdamRule>;

// ---- Accesses. row(r, id) gives access to entry r of the step, table row id: an element's old
// value is loaded, its new one follows from the gradient and is stored. Loops load all that an
// element needs before they store anything: tables tend to lie at the same offset from a page, and
// a load that follows a store to the same offset waits for it.

// No state: the value is the gradient (the first moment of Adam at beta1 = 0).
struct NoState {
  struct Row {
    SG_HD float load(int64_t) const { return 0.0f; }
    SG_HD float next(float, float g) const { return g; }
    SG_HD void store(int64_t, float) const {}
  };
  SG_HD Row row(int64_t, int64_t) const { return {}; }
};

// One float an element, advanced in place.
struct DenseState {
  Matrix state;  // [table rows, columns]
  Accumulate accumulate;
  struct Row {
    float* x;
    Accumulate accumulate;
    SG_HD float load(int64_t c) const { return x[c]; }
    SG_HD float next(float old, float g) const {
      return accumulate.decay * old + accumulate.scale * accumulate.input(g);
    }
    SG_HD void store(int64_t c, float value) const { x[c] = value; }
  };
  SG_HD Row row(int64_t, int64_t id) const { return {state.row(id), accumulate}; }
};

// Accesses whose elements know nothing of each other.
using ElementAccess = std::variant<NoState, DenseState>;

}  // namespace sketchgrad::kernels
