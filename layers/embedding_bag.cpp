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

BagInput make_bag_input(const std::string& name, const SparseRows& x, int64_t columns,
                        Device device, bool with_gradient) {
  const MemoryScope scope(name);
  check_sparse_rows(name, x, columns);
  BagInput result{columns, x.to(name, device), {}};
  if (!with_gradient) return result;
  const TransposedRows transposed = transpose(name, x, columns);
  const std::string by_column = name + ".by_column";
  result.by_column = {transposed.ids.to(device, {Category::index, by_column + ".ids"}),
                      transposed.rows.to(by_column, device)};
  return result;
}

EmbeddingBag::EmbeddingBag(const std::string& name, const EmbeddingBagOptions& options, Rng& rng,
                           Device device)
    : name_(name),
      options_(options),
      weight_(add_parameter(name + ".weight", table_shape(name, options), device)) {
  init_uniform(weight_, rng, -options.init_range, options.init_range);
  if (options.bias) bias_ = &add_parameter(name + ".bias", {options.dim}, device);
}

Variable EmbeddingBag::forward(Tape& tape, const SparseRows& x) {
  return forward(tape,
                 make_bag_input(name_, x, options_.rows, weight_.value.device(), tape.recording()));
}

Variable EmbeddingBag::forward(Tape& tape, const BagInput& x) {
  const MemoryScope scope(name_);
  const Device device = weight_.value.device();
  check(x.columns == options_.rows && x.rows.device() == device,
        "[{}] an input of {} columns on {} for a table of {} rows on {}", name_, x.columns,
        to_string(x.rows.device()), options_.rows, to_string(device));
  const Tensor y = Tensor::empty({x.rows.rows(), options_.dim}, {Category::activation, name_},
                                 DType::float32, device);
  kernels::csr_matmul(y.exec(), x.rows.csr(), weight_.value.matrix(), y.matrix());
  if (bias_ != nullptr) kernels::add_row(y.exec(), y.matrix(), bias_->value.data<float>());

  const Variable table = tape.leaf(weight_);
  const Variable bias = bias_ == nullptr ? Variable() : tape.leaf(*bias_);
  if (!table.needs_gradient()) return Tape::constant(y);
  check(x.by_column.ids.defined(), "[{}] an input without its transpose has no gradient", name_);
  return tape.record(
      "embedding_bag", y, {&table, &bias},
      [name = weight_.name, bias_name = name_ + ".grad_bias", rows = options_.rows,
       table = table.place(), bias = bias.place(),
       by_column = x.by_column](Tape& t, const Tensor& grad_output) {
        const Tensor& ids = by_column.ids;
        const Tensor values =
            Tensor::empty({ids.numel(), grad_output.size(1)}, {Category::gradient, name},
                          DType::float32, grad_output.device());
        kernels::csr_matmul(values.exec(), by_column.rows.csr(), grad_output.matrix(),
                            values.matrix());
        t.add_gradient(table, RowSparse{rows, ids, values, /*coalesced=*/true, /*checked=*/true});
        if (bias.needs_gradient()) t.add_gradient(bias, column_sums(grad_output, bias_name));
      });
}

}  // namespace sketchgrad
