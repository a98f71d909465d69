#include "sketchgrad/layers/sparse_rows.h"

#include <algorithm>

#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {

namespace {

Tensor index_array(const std::string& name, const char* what, int64_t count) {
  return Tensor::empty({count}, {Category::index, name + what}, DType::int32);
}

}  // namespace

SparseRows SparseRows::to(const std::string& name, Device device) const {
  const auto copy = [&](const Tensor& array, const char* what) {
    return array.to(device, {Category::index, name + what});
  };
  return {copy(begin, ".begin"), copy(columns, ".columns"),
          values.defined() ? copy(values, ".values") : Tensor()};
}

kernels::CsrMatrix SparseRows::csr() const {
  return {rows(), begin.data<int32_t>(), columns.data<int32_t>(),
          values.defined() ? values.data<float>() : nullptr};
}

void check_sparse_rows(const std::string& op, const SparseRows& matrix, int64_t columns) {
  check(matrix.begin.defined() && matrix.columns.defined() && matrix.device() == kCpu &&
            matrix.columns.device() == kCpu,
        "[{}] rows and columns of a sparse matrix must be on the CPU", op);
  check(matrix.rows() >= 0, "[{}] the rows of a sparse matrix have no beginning", op);
  check(!matrix.values.defined() || matrix.values.numel() == matrix.entries(),
        "[{}] {} values for {} columns of a sparse matrix", op,
        matrix.values.defined() ? matrix.values.numel() : 0, matrix.entries());
  const int32_t* const begin = matrix.begin.data<int32_t>();
  check(begin[0] == 0 && begin[matrix.rows()] == matrix.entries(),
        "[{}] the rows of a sparse matrix go from entry {} to {}, they must go from 0 to {}", op,
        begin[0], begin[matrix.rows()], matrix.entries());
  for (int64_t r = 0; r < matrix.rows(); ++r) {
    check(begin[r] <= begin[r + 1],
          "[{}] row {} of a sparse matrix begins at entry {}, the row behind it at {}", op, r,
          begin[r], begin[r + 1]);
  }
  const int32_t* const column = matrix.columns.data<int32_t>();
  const int64_t wrong =
      kernels::find_out_of_range(matrix.columns.exec(), column, matrix.entries(), columns);
  check(wrong < 0, "[{}] column {} at entry {} is outside the {} of a sparse matrix", op,
        wrong < 0 ? 0 : column[wrong], wrong, columns);
}

TransposedRows transpose(const std::string& name, const SparseRows& matrix, int64_t columns) {
  const int64_t entries = matrix.entries();
  const Tensor keys = index_array(name, ".ids", entries);
  const Tensor begin = index_array(name, ".begin", entries + 1);
  const Tensor order = index_array(name, ".order", entries);
  const kernels::Groups groups =
      kernels::group_by_key(keys.exec(), matrix.columns.data<int32_t>(), entries, columns,
                            keys.data<int32_t>(), begin.data<int32_t>(), order.data<int32_t>());

  const Tensor row_of = index_array(name, ".row_of", entries);
  const int32_t* const first = matrix.begin.data<int32_t>();
  for (int64_t r = 0; r < matrix.rows(); ++r) {
    std::fill(row_of.data<int32_t>() + first[r], row_of.data<int32_t>() + first[r + 1],
              static_cast<int32_t>(r));
  }
  TransposedRows result{keys.rows(0, groups.count),
                        {begin.rows(0, groups.count + 1), index_array(name, ".rows", entries), {}}};
  int32_t* const row = result.rows.columns.data<int32_t>();
  for (int64_t i = 0; i < entries; ++i) row[i] = row_of.data<int32_t>()[groups.order[i]];
  if (matrix.values.defined()) {
    result.rows.values = Tensor::empty({entries}, {Category::index, name + ".values"});
    float* const value = result.rows.values.data<float>();
    for (int64_t i = 0; i < entries; ++i) value[i] = matrix.values.data<float>()[groups.order[i]];
  }
  return result;
}

}  // namespace sketchgrad
