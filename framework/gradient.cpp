#include "sketchgrad/framework/gradient.h"

#include <utility>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {
namespace {

// table(ids[i], :) += values(i, :)
void scatter_add(const RowSparse& rows, const Tensor& table) {
  const int64_t cols = rows.values.size(1);
  check(rows.table_rows * cols == table.numel(),
        "[gradient] rows of a [{}, {}] table added to a dense gradient {}", rows.table_rows, cols,
        to_string(table.shape()));
  kernels::scatter_add_rows(table.exec(), rows.values.matrix(), rows.ids.data<int32_t>(), 1.0f,
                            kernels::contiguous(table.data<float>(), rows.table_rows, cols));
}

// What `tensor` holds, in storage that nobody else sees.
Tensor writable(Tensor tensor) {
  return tensor.unique() ? tensor : tensor.clone({Category::gradient, "gradient"});
}

}  // namespace

Tensor sum_of_gradients(Tensor a, Tensor b) {
  check(a.shape() == b.shape(), "[gradient] {} added to {}", to_string(b.shape()),
        to_string(a.shape()));
  if (!a.unique()) std::swap(a, b);
  if (!a.unique()) {
    const Tensor sum =
        Tensor::empty(a.shape(), {Category::gradient, "gradient"}, DType::float32, a.device());
    kernels::binary(a.exec(), kernels::Binary::add, a.data<float>(), b.data<float>(),
                    sum.data<float>(), a.numel());
    return sum;
  }
  kernels::add_scaled(a.exec(), b.data<float>(), 1.0f, a.data<float>(), a.numel());
  return a;
}

Gradient::Kind Gradient::kind() const {
  if (dense_.defined()) return Kind::dense;
  return parts_.empty() ? Kind::none : Kind::row_sparse;
}

void Gradient::add(Tensor dense) {
  check(dense.defined() && dense.dtype() == DType::float32,
        "[gradient] a dense part must be a float32 tensor");
  if (dense_.defined()) {
    dense_ = sum_of_gradients(std::move(dense_), std::move(dense));
    return;
  }
  dense_ = std::move(dense);
  if (parts_.empty()) return;
  dense_ = writable(std::move(dense_));
  scatter_add(coalesce(parts_), dense_);
  parts_.clear();
}

void Gradient::add(RowSparse rows) {
  check(rows.ids.defined() && rows.values.defined(),
        "[gradient] a row-sparse part without ids or values");
  if (!dense_.defined()) {
    // rows() hands a part of this kind on as it is, to loops that believe it.
    if (rows.coalesced) rows = coalesce({std::move(rows)});
    parts_.push_back(std::move(rows));
    return;
  }
  dense_ = writable(std::move(dense_));
  scatter_add(coalesce({std::move(rows)}), dense_);
}

void Gradient::clear() {
  dense_ = Tensor();
  parts_.clear();
}

const Tensor& Gradient::dense() const {
  check(kind() == Kind::dense, "[gradient] read as dense, but it is {}",
        empty() ? "none" : "row-sparse");
  return dense_;
}

const RowSparse& Gradient::rows() {
  check(kind() == Kind::row_sparse, "[gradient] read as row-sparse, but it is {}",
        empty() ? "none" : "dense");
  if (parts_.size() > 1 || !parts_[0].coalesced) {
    RowSparse sum = coalesce(parts_);
    parts_.clear();
    parts_.push_back(std::move(sum));
  }
  return parts_[0];
}

Tensor Gradient::writable_values() {
  if (empty()) return Tensor();
  if (kind() == Kind::row_sparse) rows();
  Tensor& target = dense_.defined() ? dense_ : parts_[0].values;
  target = writable(std::move(target));
  return target;
}

void Gradient::scale(float factor) {
  const Tensor target = writable_values();
  if (!target.defined()) return;
  float* const data = target.data<float>();
  kernels::scale(target.exec(), data, factor, data, target.numel());
}

void Gradient::scale_by(const float* factor) {
  const Tensor target = writable_values();
  if (!target.defined()) return;
  float* const data = target.data<float>();
  kernels::scale_by(target.exec(), data, factor, data, target.numel());
}

Tensor Gradient::values() {
  switch (kind()) {
    case Kind::none:
      return Tensor();
    case Kind::dense: {
      const int64_t cols = dense_.dim() == 0 ? 1 : dense_.size(-1);
      return dense_.reshape({cols > 0 ? dense_.numel() / cols : 0, cols});
    }
    case Kind::row_sparse:
      return rows().values;
  }
  return Tensor();
}

}  // namespace sketchgrad
