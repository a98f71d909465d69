#include "sketchgrad/tests/support/lstm_layer_reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace sketchgrad::test {

namespace {

using kernels::LstmLayerShape;

// The reserve: of each step and sequence the activated gates [4H], the cell [H], and the output
// before the projection [H].
struct Saved {
  Saved(const LstmLayerShape& shape, float* reserve, int64_t step, int64_t sequence)
      : gates(reserve + 6 * shape.hidden * (step * shape.batch + sequence)),
        cell(gates + 4 * shape.hidden),
        unprojected(cell + shape.hidden) {}
  float* gates;
  float* cell;
  float* unprojected;
};

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double dot(const float* a, const float* b, int64_t count) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}
// out += scale * in
void add(double scale, const float* in, int64_t count, double* out) {
  for (int64_t i = 0; i < count; ++i) out[i] += scale * in[i];
}
void store(const std::vector<double>& values, float* out) {
  std::transform(values.begin(), values.end(), out, [](double v) { return static_cast<float>(v); });
}
std::vector<double> zeros(int64_t count) { return std::vector<double>(static_cast<size_t>(count)); }

}  // namespace

int64_t lstm_reference_reserve_floats(const LstmLayerShape& shape) {
  return 6 * shape.hidden * shape.steps * shape.batch;
}

void lstm_reference_forward(const LstmLayerShape& shape,
                            const kernels::LstmLayerArrays<const float>& weights, const float* x,
                            const float* h, const float* c, float* y, float* h_next, float* c_next,
                            float* reserve) {
  const int64_t units = shape.hidden, outputs = shape.output();
  for (int64_t t = 0; t < shape.steps; ++t) {
    for (int64_t b = 0; b < shape.batch; ++b) {
      const Saved saved(shape, reserve, t, b);
      const int64_t place = t * shape.batch + b;
      const float* const h_before = t > 0 ? y + (place - shape.batch) * outputs : h + b * outputs;
      const float* const c_before = t > 0 ? Saved(shape, reserve, t - 1, b).cell : c + b * units;
      for (int64_t g = 0; g < 4 * units; ++g) {
        const double value =
            static_cast<double>(weights.bias_ih[g]) + weights.bias_hh[g] +
            dot(weights.weight_ih + g * shape.input, x + place * shape.input, shape.input) +
            dot(weights.weight_hh + g * outputs, h_before, outputs);
        const bool candidate = g / units == 2;
        saved.gates[g] = static_cast<float>(candidate ? std::tanh(value) : sigmoid(value));
      }
      for (int64_t j = 0; j < units; ++j) {
        saved.cell[j] =
            saved.gates[units + j] * c_before[j] + saved.gates[j] * saved.gates[2 * units + j];
        saved.unprojected[j] = saved.gates[3 * units + j] * std::tanh(saved.cell[j]);
      }
      float* const out = y + place * outputs;
      for (int64_t p = 0; p < outputs; ++p) {
        out[p] =
            shape.projection > 0
                ? static_cast<float>(dot(weights.weight_hr + p * units, saved.unprojected, units))
                : saved.unprojected[p];
      }
      if (t + 1 < shape.steps) continue;
      std::copy_n(out, outputs, h_next + b * outputs);
      std::copy_n(saved.cell, units, c_next + b * units);
    }
  }
}

void lstm_reference_backward(const LstmLayerShape& shape,
                             const kernels::LstmLayerArrays<const float>& weights, const float* x,
                             const float* h, const float* c, const float* y, const float* grad_y,
                             const float* reserve, float* grad_x,
                             const kernels::LstmLayerArrays<float>& gradients) {
  const int64_t units = shape.hidden, outputs = shape.output();
  std::vector<double> weight_ih = zeros(4 * units * shape.input);
  std::vector<double> weight_hh = zeros(4 * units * outputs);
  std::vector<double> bias = zeros(4 * units), weight_hr = zeros(shape.projection * units);
  float* const saved_floats = const_cast<float*>(reserve);  // only read
  for (int64_t b = 0; b < shape.batch; ++b) {
    std::vector<double> grad_h = zeros(outputs), grad_c = zeros(units);
    for (int64_t t = shape.steps - 1; t >= 0; --t) {
      const Saved saved(shape, saved_floats, t, b);
      const int64_t place = t * shape.batch + b;
      const float* const h_before = t > 0 ? y + (place - shape.batch) * outputs : h + b * outputs;
      const float* const c_before =
          t > 0 ? Saved(shape, saved_floats, t - 1, b).cell : c + b * units;
      add(1.0, grad_y + place * outputs, outputs, grad_h.data());
      std::vector<double> grad_m = zeros(units);
      for (int64_t p = 0; p < outputs; ++p) {
        const double grad = grad_h[static_cast<size_t>(p)];
        if (shape.projection == 0) {
          grad_m[static_cast<size_t>(p)] = grad;
        } else {
          add(grad, weights.weight_hr + p * units, units, grad_m.data());
          add(grad, saved.unprojected, units, weight_hr.data() + p * units);
        }
      }
      std::vector<double> grad_in = zeros(shape.input);
      std::fill(grad_h.begin(), grad_h.end(), 0.0);
      for (int64_t j = 0; j < units; ++j) {
        const double i = saved.gates[j], f = saved.gates[units + j];
        const double g = saved.gates[2 * units + j], o = saved.gates[3 * units + j];
        const double tanh_c = std::tanh(static_cast<double>(saved.cell[j]));
        const double grad_out = grad_m[static_cast<size_t>(j)];
        double& grad_cell = grad_c[static_cast<size_t>(j)];
        grad_cell += grad_out * o * (1.0 - tanh_c * tanh_c);
        const double before[4] = {grad_cell * g * i * (1.0 - i),
                                  grad_cell * c_before[j] * f * (1.0 - f),
                                  grad_cell * i * (1.0 - g * g), grad_out * tanh_c * o * (1.0 - o)};
        grad_cell *= f;
        for (int64_t gate = 0; gate < 4; ++gate) {
          const int64_t row = gate * units + j;
          bias[static_cast<size_t>(row)] += before[gate];
          add(before[gate], x + place * shape.input, shape.input,
              weight_ih.data() + row * shape.input);
          add(before[gate], h_before, outputs, weight_hh.data() + row * outputs);
          add(before[gate], weights.weight_ih + row * shape.input, shape.input, grad_in.data());
          add(before[gate], weights.weight_hh + row * outputs, outputs, grad_h.data());
        }
      }
      if (grad_x != nullptr) store(grad_in, grad_x + place * shape.input);
    }
  }
  store(weight_ih, gradients.weight_ih);
  store(weight_hh, gradients.weight_hh);
  store(bias, gradients.bias_ih);
  store(bias, gradients.bias_hh);
  store(weight_hr, gradients.weight_hr);
}

}  // namespace sketchgrad::test
