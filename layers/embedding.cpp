#include "sketchgrad/layers/embedding.h"

#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {

namespace {

Shape table_shape(const std::string& name, const EmbeddingOptions& options) {
  check(options.rows > 0 && options.dim > 0,
        "[embedding] {} is a table of {} rows of {} columns, both must be at least 1", name,
        options.rows, options.dim);
  check(options.padding_id >= -1 && options.padding_id < options.rows,
        "[embedding] padding id {} of {} is outside a table of {} rows (-1 for none)",
        options.padding_id, name, options.rows);
  return {options.rows, options.dim};
}

void check_ids(const Parameter& table, const Tensor& ids) {
  check(ids.dtype() == DType::int32, "[embedding] ids for {} are {}, they must be int32",
        table.name, to_string(ids.dtype()));
  const int64_t rows = table.value.size(0);
  const int64_t position =
      kernels::find_out_of_range(ids.exec(), ids.data<int32_t>(), ids.numel(), rows);
  if (position < 0) return;
  const int32_t id = ids.reshape({-1}).rows(position, 1).to_vector<int32_t>()[0];
  throw InvalidArgument(fmt::format("[embedding] id {} at position {} is outside the {} rows of {}",
                                    id, position, rows, table.name));
}

// The entries whose id is not the padding id, in their order.
RowSparse without_padding(const RowSparse& gradient, int32_t padding_id) {
  const kernels::Exec exec = gradient.ids.exec();
  const int32_t* const ids = gradient.ids.data<int32_t>();
  const int64_t kept =
      gradient.count() - kernels::count_id(exec, ids, gradient.count(), padding_id);
  if (kept == gradient.count()) return gradient;

  const Tensor& values = gradient.values;
  const Tensor entries =
      Tensor::empty({kept}, {Category::index, "embedding.kept"}, DType::int32, values.device());
  RowSparse result = gradient;
  result.ids =
      Tensor::empty({kept}, {Category::index, "embedding.grad_ids"}, DType::int32, values.device());
  kernels::copy_other_ids(exec, ids, gradient.count(), padding_id, result.ids.data<int32_t>(),
                          entries.data<int32_t>());
  result.values = Tensor::empty({kept, values.size(1)}, {Category::gradient, "embedding.grad_rows"},
                                DType::float32, values.device());
  kernels::gather_rows(exec, values.matrix(), entries.data<int32_t>(), -1, result.values.matrix());
  return result;
}

}  // namespace

Embedding::Embedding(const std::string& name, const EmbeddingOptions& options, Rng& rng,
                     Device device)
    : name_(name),
      options_(options),
      weight_(add_parameter(name + ".weight", table_shape(name, options), device)) {
  init_uniform(weight_, rng, -options.init_range, options.init_range);
  if (options.padding_id >= 0) weight_.value.rows(options.padding_id, 1).fill(0.0f);
}

Variable Embedding::forward(Tape& tape, const Tensor& ids) {
  const MemoryScope scope(name_);
  check_ids(weight_, ids);
  const Variable table = tape.leaf(weight_);
  Shape shape = ids.shape();
  shape.push_back(options_.dim);
  Tensor rows = Tensor::empty(shape, {Category::activation, weight_.name + ".rows"}, DType::float32,
                              weight_.value.device());
  const int64_t tokens = ids.numel();
  kernels::gather_rows(rows.exec(), table.value.matrix(), ids.data<int32_t>(), options_.padding_id,
                       kernels::contiguous(rows.data<float>(), tokens, options_.dim));

  return tape.record(
      "embedding", rows, {&table},
      [table = table.place(), ids, tokens, options = options_](Tape& t, const Tensor& grad_output) {
        // The caller may refill his ids before an optimizer reads the gradient.
        RowSparse gradient{options.rows,
                           ids.reshape({tokens}).clone({Category::index, "embedding.grad_ids"}),
                           grad_output.reshape({tokens, options.dim})};
        if (options.padding_id >= 0) {
          gradient = without_padding(gradient, options.padding_id);
        }
        t.add_gradient(table, std::move(gradient));
      });
}

}  // namespace sketchgrad
