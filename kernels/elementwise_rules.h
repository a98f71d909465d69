#pragma once

#include <cstdint>

#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/math_rules.h"
#include "sketchgrad/kernels/views.h"

namespace sketchgrad::kernels {

// Activations: value(x), and the gradient of x from the output y and its gradient. NaN stays NaN.
struct Relu {
  static SG_HD float value(float x) { return x < 0.0f ? 0.0f : x; }
  static SG_HD float gradient(float y, float grad_y) { return y <= 0.0f ? 0.0f : grad_y; }
};
struct Sigmoid {
  static SG_HD float value(float x) { return fast_sigmoid(x); }
  static SG_HD float gradient(float y, float grad_y) { return grad_y * y * (1.0f - y); }
};
struct Tanh {
  static SG_HD float value(float x) { return fast_tanh(x); }
  static SG_HD float gradient(float y, float grad_y) { return grad_y * (1.0f - y * y); }
};

struct Add {
  static SG_HD float value(float a, float b) { return a + b; }
};
struct Subtract {
  static SG_HD float value(float a, float b) { return a - b; }
};
struct Multiply {
  static SG_HD float value(float a, float b) { return a * b; }
};

// Loop bodies for for_each and for_each_row.
struct FillElement {
  float* out;
  float value;
  SG_HD void operator()(int64_t i) const { out[i] = value; }
};

struct CopyElement {
  const float* in;
  float* out;
  SG_HD void operator()(int64_t i) const { out[i] = in[i]; }
};

struct ScaleElement {
  const float* in;
  float scale;
  float* out;
  SG_HD void operator()(int64_t i) const { out[i] = scale * in[i]; }
};

struct ScaleByElement {
  const float* in;
  const float* factor;
  float* out;
  SG_HD void operator()(int64_t i) const {
    if (in == out && *factor == 1.0f) return;  // gradients that need no clipping stay unread
    out[i] = *factor * in[i];
  }
};

struct AddScaledElement {
  const float* in;
  float scale;
  float* out;
  SG_HD void operator()(int64_t i) const { out[i] += scale * in[i]; }
};

template <class Op>
struct UnaryElement {
  const float* in;
  float* out;
  SG_HD void operator()(int64_t i) const { out[i] = Op::value(in[i]); }
};

template <class Op>
struct UnaryGradientElement {
  const float* out;
  const float* grad_out;
  float* grad_in;
  SG_HD void operator()(int64_t i) const { grad_in[i] = Op::gradient(out[i], grad_out[i]); }
};

template <class Op>
struct BinaryElement {
  const float* a;
  const float* b;
  float* out;
  SG_HD void operator()(int64_t i) const { out[i] = Op::value(a[i], b[i]); }
};

struct AddRow {
  Matrix matrix;
  const float* row;

  struct Column {
    float* out;
    const float* row;
    SG_HD void operator()(int64_t c) const { out[c] += row[c]; }
  };
  SG_HD Column operator()(int64_t r) const { return {matrix.row(r), row}; }
};

}  // namespace sketchgrad::kernels
