#include "sketchgrad/framework/ops.h"

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/random.h"
#include "sketchgrad/kernels/reduce.h"

namespace sketchgrad {
namespace {

using kernels::Binary;
using kernels::Transpose;
using kernels::Unary;

Tensor activation(const Shape& shape, std::string_view name, Device device) {
  return Tensor::empty(shape, {Category::activation, name}, DType::float32, device);
}

Tensor gradient(const Shape& shape, std::string_view name, Device device) {
  return Tensor::empty(shape, {Category::gradient, name}, DType::float32, device);
}

// Where an op writes the gradient of an input that has the shape of its output: over the output's
// gradient, unless somebody else (an input that adopted it) still reads that.
Tensor reuse(const Tensor& grad_output, std::string_view name) {
  return grad_output.unique() ? grad_output
                              : gradient(grad_output.shape(), name, grad_output.device());
}

void check_same_shape(std::string_view op, const Tensor& a, const Tensor& b) {
  check(a.shape() == b.shape(), "[{}] shapes {} and {} must be equal", op, to_string(a.shape()),
        to_string(b.shape()));
}

Tensor binary_value(Binary op, const Tensor& a, const Tensor& b, const Tensor& out) {
  kernels::binary(a.exec(), op, a.data<float>(), b.data<float>(), out.data<float>(), a.numel());
  return out;
}

Tensor scaled(const Tensor& in, float factor, const Tensor& out) {
  kernels::scale(in.exec(), in.data<float>(), factor, out.data<float>(), in.numel());
  return out;
}

Variable unary(Tape& tape, Unary op, const char* name, const Variable& x) {
  const MemoryScope scope(name);
  const Tensor out = activation(x.value.shape(), name, x.value.device());
  kernels::unary(out.exec(), op, x.value.data<float>(), out.data<float>(), out.numel());
  return tape.record(name, out, {&x}, [op, name, out, place = x.place()](Tape& t, const Tensor& g) {
    const Tensor grad = reuse(g, name);
    kernels::unary_backward(g.exec(), op, out.data<float>(), g.data<float>(), grad.data<float>(),
                            g.numel());
    t.add_gradient(place, grad);
  });
}

Variable scaled_sum(Tape& tape, const char* name, const Variable& x, double factor) {
  const MemoryScope scope(name);
  const Tensor out = activation({1}, name, x.value.device());
  kernels::scaled_sum(x.value.exec(), x.value.data<float>(), x.value.numel(), factor,
                      out.data<float>());
  return tape.record(
      name, out, {&x},
      [name, factor, place = x.place(), shape = x.value.shape()](Tape& t, const Tensor& g) {
        const float value = static_cast<float>(t.scalar(g) * factor);
        t.add_gradient(place, Tensor::full(shape, value, {Category::gradient, name}, g.device()));
      });
}

}  // namespace

Variable add(Tape& tape, const Variable& a, const Variable& b) {
  const MemoryScope scope("add");
  check_same_shape("add", a.value, b.value);
  const Tensor out = activation(a.value.shape(), "add", a.value.device());
  binary_value(Binary::add, a.value, b.value, out);
  return tape.record("add", out, {&a, &b},
                     [a = a.place(), b = b.place()](Tape& t, const Tensor& g) {
                       t.add_gradient(a, g);
                       t.add_gradient(b, g);
                     });
}

Variable subtract(Tape& tape, const Variable& a, const Variable& b) {
  const MemoryScope scope("subtract");
  check_same_shape("subtract", a.value, b.value);
  const Tensor out = activation(a.value.shape(), "subtract", a.value.device());
  binary_value(Binary::subtract, a.value, b.value, out);
  return tape.record("subtract", out, {&a, &b},
                     [a = a.place(), b = b.place()](Tape& t, const Tensor& g) {
                       t.add_gradient(a, g);
                       if (!b.needs_gradient()) return;
                       t.add_gradient(b, scaled(g, -1.0f, reuse(g, "subtract")));
                     });
}

Variable multiply(Tape& tape, const Variable& a, const Variable& b) {
  const MemoryScope scope("multiply");
  check_same_shape("multiply", a.value, b.value);
  const Tensor out = activation(a.value.shape(), "multiply", a.value.device());
  binary_value(Binary::multiply, a.value, b.value, out);
  return tape.record(
      "multiply", out, {&a, &b},
      [a = a.place(), b = b.place(), a_value = b.needs_gradient() ? a.value : Tensor(),
       b_value = a.needs_gradient() ? b.value : Tensor()](Tape& t, const Tensor& g) {
        if (a.needs_gradient()) {
          const Tensor grad = b.needs_gradient() ? gradient(g.shape(), "multiply", g.device())
                                                 : reuse(g, "multiply");
          t.add_gradient(a, binary_value(Binary::multiply, g, b_value, grad));
        }
        if (b.needs_gradient()) {
          t.add_gradient(b, binary_value(Binary::multiply, g, a_value, reuse(g, "multiply")));
        }
      });
}

Variable scale(Tape& tape, const Variable& x, float factor) {
  const MemoryScope scope("scale");
  const Tensor out =
      scaled(x.value, factor, activation(x.value.shape(), "scale", x.value.device()));
  return tape.record("scale", out, {&x}, [x = x.place(), factor](Tape& t, const Tensor& g) {
    t.add_gradient(x, scaled(g, factor, reuse(g, "scale")));
  });
}

Variable relu(Tape& tape, const Variable& x) { return unary(tape, Unary::relu, "relu", x); }
Variable sigmoid(Tape& tape, const Variable& x) {
  return unary(tape, Unary::sigmoid, "sigmoid", x);
}
Variable tanh(Tape& tape, const Variable& x) { return unary(tape, Unary::tanh, "tanh", x); }

Variable reshape(Tape& tape, const Variable& x, const Shape& shape) {
  return tape.record("reshape", x.value.reshape(shape), {&x},
                     [x = x.place(), before = x.value.shape()](Tape& t, const Tensor& g) {
                       t.add_gradient(x, g.reshape(before));
                     });
}

Variable matmul(Tape& tape, const Variable& a, const Variable& b) {
  const MemoryScope scope("matmul");
  check(a.value.dim() == 2 && b.value.dim() == 2 && a.value.size(1) == b.value.size(0),
        "[matmul] shapes {} and {} must be [m, k] and [k, n]", to_string(a.value.shape()),
        to_string(b.value.shape()));
  const Tensor out = activation({a.value.size(0), b.value.size(1)}, "matmul", a.value.device());
  kernels::gemm(out.exec(), Transpose::no, Transpose::no, 1.0f, a.value.matrix(), b.value.matrix(),
                0.0f, out.matrix());
  return tape.record("matmul", out, {&a, &b},
                     [a = a.place(), b = b.place(), a_shape = a.value.shape(),
                      b_shape = b.value.shape(), a_value = b.needs_gradient() ? a.value : Tensor(),
                      b_value = a.needs_gradient() ? b.value : Tensor()](Tape& t, const Tensor& g) {
                       if (a.needs_gradient()) {
                         const Tensor grad = gradient(a_shape, "matmul", g.device());
                         kernels::gemm(g.exec(), Transpose::no, Transpose::yes, 1.0f, g.matrix(),
                                       b_value.matrix(), 0.0f, grad.matrix());
                         t.add_gradient(a, grad);
                       }
                       if (b.needs_gradient()) {
                         const Tensor grad = gradient(b_shape, "matmul", g.device());
                         kernels::gemm(g.exec(), Transpose::yes, Transpose::no, 1.0f,
                                       a_value.matrix(), g.matrix(), 0.0f, grad.matrix());
                         t.add_gradient(b, grad);
                       }
                     });
}

Variable linear(Tape& tape, const Variable& x, const Variable& weight, const Variable* bias) {
  const MemoryScope scope("linear");
  check(x.value.dim() >= 1 && weight.value.dim() == 2 && x.value.size(-1) == weight.value.size(1),
        "[linear] input {} and weight {} must be [.., in] and [out, in]",
        to_string(x.value.shape()), to_string(weight.value.shape()));
  const int64_t out_size = weight.value.size(0);
  check(bias == nullptr || bias->value.shape() == Shape{out_size},
        "[linear] bias {} for weight {}, it must be [out]",
        to_string(bias == nullptr ? Shape{} : bias->value.shape()),
        to_string(weight.value.shape()));
  Shape shape = x.value.shape();
  shape.back() = out_size;
  const Tensor out = activation(shape, "linear", x.value.device());
  kernels::gemm(out.exec(), Transpose::no, Transpose::yes, 1.0f, x.value.matrix(),
                weight.value.matrix(), 0.0f, out.matrix());
  if (bias != nullptr) kernels::add_row(out.exec(), out.matrix(), bias->value.data<float>());
  return tape.record(
      "linear", out, {&x, &weight, bias},
      [x = x.place(), weight = weight.place(), bias = bias == nullptr ? Variable() : bias->place(),
       x_shape = x.value.shape(), weight_shape = weight.value.shape(),
       x_value = weight.needs_gradient() ? x.value : Tensor(),
       weight_value = x.needs_gradient() ? weight.value : Tensor()](Tape& t, const Tensor& g) {
        if (bias.needs_gradient()) {
          const Tensor grad = Tensor::zeros({weight_shape[0]}, {Category::gradient, "linear.bias"},
                                            DType::float32, g.device());
          kernels::add_column_sums(g.exec(), g.matrix(), grad.data<float>());
          t.add_gradient(bias, grad);
        }
        if (weight.needs_gradient()) {
          const Tensor grad = gradient(weight_shape, "linear.weight", g.device());
          kernels::gemm(g.exec(), Transpose::yes, Transpose::no, 1.0f, g.matrix(), x_value.matrix(),
                        0.0f, grad.matrix());
          t.add_gradient(weight, grad);
        }
        if (x.needs_gradient()) {
          const Tensor grad = gradient(x_shape, "linear.input", g.device());
          kernels::gemm(g.exec(), Transpose::no, Transpose::no, 1.0f, g.matrix(),
                        weight_value.matrix(), 0.0f, grad.matrix());
          t.add_gradient(x, grad);
        }
      });
}

Variable dropout(Tape& tape, const Variable& x, float probability, kernels::PhiloxKey key) {
  check(probability >= 0.0f && probability < 1.0f, "[dropout] probability {} is not in [0, 1)",
        probability);
  if (probability == 0.0f) return x;
  const MemoryScope scope("dropout");
  const Tensor out = activation(x.value.shape(), "dropout", x.value.device());
  kernels::dropout(out.exec(), key, probability, x.value.data<float>(), out.data<float>(),
                   out.numel());
  return tape.record("dropout", out, {&x},
                     [x = x.place(), probability, key](Tape& t, const Tensor& g) {
                       const Tensor grad = reuse(g, "dropout");
                       kernels::dropout(g.exec(), key, probability, g.data<float>(),
                                        grad.data<float>(), g.numel());
                       t.add_gradient(x, grad);
                     });
}

Variable sum(Tape& tape, const Variable& x) { return scaled_sum(tape, "sum", x, 1.0); }

Variable mean(Tape& tape, const Variable& x) {
  check(x.value.numel() > 0, "[mean] of no elements, shape {}", to_string(x.value.shape()));
  return scaled_sum(tape, "mean", x, 1.0 / static_cast<double>(x.value.numel()));
}

}  // namespace sketchgrad
