#include "sketchgrad/layers/embedding_bag.h"

#include <utility>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {

namespace {

Shape table_shape(const std::string& name, const EmbeddingBagOptions& options) {
  check(options.rows > 0 && options.dim > 0,
        "[embedding_bag] {} is a table of {} rows of {} columns, both must be at least 1", name,
        options.rows, options.dim);
  return {options.rows, options.dim};
}

Tensor column_sums(const Tensor& values, const std::string& name) {
  Tensor sums =
      Tensor::zeros({values.size(-1)}, {Category::gradient, name}, DType::float32, values.device());
  kernels::add_column_sums(values.exec(), values.matrix(), sums.data<float>());
  return sums;
}

}  // namespace

EmbeddingBag::EmbeddingBag(const std::string& name, const EmbeddingBagOptions& options, Rng& rng,
                           Device device)
    : name_(name),
      options_(options),
      weight_(add_parameter(name + ".weight", table_shape(name, options), device)) {
  init_uniform(weight_, rng, -options.init_range, options.init_range);
  if (options.bias) bias_ = &add_parameter(name + ".bias", {options.dim}, device);
}

Variable EmbeddingBag::forward(Tape& tape, const SparseRows& x) {
  const MemoryScope scope(name_);
  check_sparse_rows(name_, x, options_.rows);
  const Device device = weight_.value.device();
  const Tensor y = Tensor::empty({x.rows(), options_.dim}, {Category::activation, name_},
                                 DType::float32, device);
  kernels::csr_matmul(y.exec(), x.to(device).csr(), weight_.value.matrix(), y.matrix());
  if (bias_ != nullptr) kernels::add_row(y.exec(), y.matrix(), bias_->value.data<float>());

  const Variable table = tape.leaf(weight_);
  const Variable bias = bias_ == nullptr ? Variable() : tape.leaf(*bias_);
  if (!table.needs_gradient()) return Tape::constant(y);
  TransposedRows by_feature = transpose(name_, x, options_.rows);
  return tape.record(
      "embedding_bag", y, {&table, &bias},
      [name = weight_.name, bias_name = name_ + ".grad_bias", rows = options_.rows,
       table = table.place(), bias = bias.place(),
       ids = by_feature.ids.to(device, {Category::index, "embedding_bag.ids"}),
       by_feature = by_feature.rows.to(device)](Tape& t, const Tensor& grad_output) {
        const Tensor values =
            Tensor::empty({ids.numel(), grad_output.size(1)}, {Category::gradient, name},
                          DType::float32, grad_output.device());
        kernels::csr_matmul(values.exec(), by_feature.csr(), grad_output.matrix(), values.matrix());
        t.add_gradient(table, RowSparse{rows, ids, values, /*coalesced=*/true, /*checked=*/true});
        if (bias.needs_gradient()) t.add_gradient(bias, column_sums(grad_output, bias_name));
      });
}

}  // namespace sketchgrad
