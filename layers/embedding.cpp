#include "sketchgrad/layers/embedding.h"

#include <algorithm>

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

// Ids of the CPU for a table elsewhere: a copy there, of which nobody else knows. What is padding
// has the id -1 in it, which means no row wherever rows are read or written.
Tensor ids_on(Device device, const Tensor& ids, int32_t padding_id) {
  Tensor host = ids;
  if (padding_id >= 0) {
    host = ids.clone({Category::index, "embedding.ids"});
    int32_t* const id = host.data<int32_t>();
    std::replace(id, id + host.numel(), padding_id, int32_t{-1});
  }
  return host.to(device, {Category::index, "embedding.ids"});
}

// The gradient of the rows that tokens have looked up, where ids and table lie on one device.
RowSparse row_gradient(const EmbeddingOptions& options, const Tensor& ids, const Tensor& values) {
  RowSparse gradient{options.rows, {}, values};
  const kernels::Exec exec = ids.exec();
  const int32_t* const id = ids.data<int32_t>();
  const int64_t tokens = ids.numel();
  const int64_t kept = options.padding_id < 0
                           ? tokens
                           : tokens - kernels::count_id(exec, id, tokens, options.padding_id);
  if (kept == tokens) {
    // The caller may refill his ids before an optimizer reads the gradient.
    gradient.ids = ids.clone({Category::index, "embedding.grad_ids"});
    return gradient;
  }
  // Without the padding, in their order.
  const auto array = [&](const char* name) {
    return Tensor::empty({kept}, {Category::index, name}, DType::int32, ids.device());
  };
  gradient.ids = array("embedding.grad_ids");
  const Tensor places = array("embedding.kept");
  kernels::copy_other_ids(exec, id, tokens, options.padding_id, gradient.ids.data<int32_t>(),
                          places.data<int32_t>());
  gradient.values =
      Tensor::empty({kept, values.size(1)}, {Category::gradient, "embedding.grad_rows"},
                    DType::float32, values.device());
  kernels::gather_rows(exec, values.matrix(), places.data<int32_t>(), -1, gradient.values.matrix());
  return gradient;
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
  const Device device = weight_.value.device();
  Shape shape = ids.shape();
  shape.push_back(options_.dim);
  Tensor rows =
      Tensor::empty(shape, {Category::activation, weight_.name + ".rows"}, DType::float32, device);
  const int64_t tokens = ids.numel();
  const bool copied = ids.device() != device;
  const Tensor ids_there = copied ? ids_on(device, ids, options_.padding_id) : ids;
  kernels::gather_rows(rows.exec(), table.value.matrix(), ids_there.data<int32_t>(),
                       copied ? -1 : options_.padding_id,
                       kernels::contiguous(rows.data<float>(), tokens, options_.dim));

  return tape.record("embedding", rows, {&table},
                     [table = table.place(), ids = ids_there.reshape({tokens}), copied,
                      options = options_](Tape& t, const Tensor& grad_output) {
                       const Tensor values = grad_output.reshape({ids.numel(), options.dim});
                       if (copied) {
                         t.add_gradient(table,
                                        RowSparse{options.rows, ids, values, /*coalesced=*/false,
                                                  /*checked=*/true});
                       } else {
                         t.add_gradient(table, row_gradient(options, ids, values));
                       }
                     });
}

}  // namespace sketchgrad
