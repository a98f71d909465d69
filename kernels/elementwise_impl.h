#pragma once

#include <cstdint>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/elementwise_rules.h"
#include "sketchgrad/kernels/for_each.h"

namespace sketchgrad::kernels {

// The device bodies behind elementwise.h. Requires what elementwise.cpp has checked.
namespace cpu {
void fill(const Exec&, float* out, int64_t count, float value);
void copy(const Exec&, const float* in, float* out, int64_t count);
void scale(const Exec&, const float* in, float scale, float* out, int64_t count);
void scale_by(const Exec&, const float* in, const float* factor, float* out, int64_t count);
void add_scaled(const Exec&, const float* in, float scale, float* out, int64_t count);
void unary(const Exec&, Unary op, const float* in, float* out, int64_t count);
void unary_backward(const Exec&, Unary op, const float* out, const float* grad_out, float* grad_in,
                    int64_t count);
void binary(const Exec&, Binary op, const float* a, const float* b, float* out, int64_t count);
void add_row(const Exec&, Matrix matrix, const float* row);
}  // namespace cpu

namespace cuda {
void fill(const Exec&, float* out, int64_t count, float value);
void copy(const Exec&, const float* in, float* out, int64_t count);
void scale(const Exec&, const float* in, float scale, float* out, int64_t count);
void scale_by(const Exec&, const float* in, const float* factor, float* out, int64_t count);
void add_scaled(const Exec&, const float* in, float scale, float* out, int64_t count);
void unary(const Exec&, Unary op, const float* in, float* out, int64_t count);
void unary_backward(const Exec&, Unary op, const float* out, const float* grad_out, float* grad_in,
                    int64_t count);
void binary(const Exec&, Binary op, const float* a, const float* b, float* out, int64_t count);
void add_row(const Exec&, Matrix matrix, const float* row);
}  // namespace cuda

namespace impl {

template <class Policy>
void fill(const Policy& policy, float* out, int64_t count, float value) {
  for_each(policy, count, FillElement{out, value});
}

template <class Policy>
void copy(const Policy& policy, const float* in, float* out, int64_t count) {
  for_each(policy, count, CopyElement{in, out});
}

template <class Policy>
void scale(const Policy& policy, const float* in, float scale, float* out, int64_t count) {
  for_each(policy, count, ScaleElement{in, scale, out});
}

template <class Policy>
void scale_by(const Policy& policy, const float* in, const float* factor, float* out,
              int64_t count) {
  for_each(policy, count, ScaleByElement{in, factor, out});
}

template <class Policy>
void add_scaled(const Policy& policy, const float* in, float scale, float* out, int64_t count) {
  for_each(policy, count, AddScaledElement{in, scale, out});
}

template <class Policy>
void unary(const Policy& policy, Unary op, const float* in, float* out, int64_t count) {
  switch (op) {
    case Unary::relu:
      return for_each(policy, count, UnaryElement<Relu>{in, out});
    case Unary::sigmoid:
      return for_each(policy, count, UnaryElement<Sigmoid>{in, out});
    case Unary::tanh:
      return for_each(policy, count, UnaryElement<Tanh>{in, out});
  }
}

template <class Policy>
void unary_backward(const Policy& policy, Unary op, const float* out, const float* grad_out,
                    float* grad_in, int64_t count) {
  switch (op) {
    case Unary::relu:
      return for_each(policy, count, UnaryGradientElement<Relu>{out, grad_out, grad_in});
    case Unary::sigmoid:
      return for_each(policy, count, UnaryGradientElement<Sigmoid>{out, grad_out, grad_in});
    case Unary::tanh:
      return for_each(policy, count, UnaryGradientElement<Tanh>{out, grad_out, grad_in});
  }
}

template <class Policy>
void binary(const Policy& policy, Binary op, const float* a, const float* b, float* out,
            int64_t count) {
  switch (op) {
    case Binary::add:
      return for_each(policy, count, BinaryElement<Add>{a, b, out});
    case Binary::subtract:
      return for_each(policy, count, BinaryElement<Subtract>{a, b, out});
    case Binary::multiply:
      return for_each(policy, count, BinaryElement<Multiply>{a, b, out});
  }
}

template <class Policy>
void add_row(const Policy& policy, Matrix matrix, const float* row) {
  for_each_row(policy, matrix.rows, matrix.cols, AddRow{matrix, row});
}

}  // namespace impl
}  // namespace sketchgrad::kernels
