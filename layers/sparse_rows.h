#pragma once

#include <string>

#include "sketchgrad/framework/tensor.h"

namespace sketchgrad {

// A sparse matrix in compressed rows (CSR): the features of examples, or their labels. Row r has
// the entries begin[r] ... begin[r + 1] - 1; a column may stand several times in a row.
struct SparseRows {
  Tensor begin;    // int32 [rows + 1]
  Tensor columns;  // int32 [entries]
  Tensor values;   // float32 [entries]; undefined: all are 1

  int64_t rows() const { return begin.numel() - 1; }
  int64_t entries() const { return columns.numel(); }
  Device device() const { return begin.device(); }
  // The matrix itself where it is on `device` already, else a copy, of arrays `name`.begin,
  // .columns and .values.
  SparseRows to(const std::string& name, Device device) const;
  kernels::CsrMatrix csr() const;
};

// Throws InvalidArgument beginning with [op] unless the matrix is on the CPU, its arrays fit each
// other, and every column is in [0, columns).
void check_sparse_rows(const std::string& op, const SparseRows&, int64_t columns);

// The transpose of a matrix, with rows for those columns only that have entries. Entries of a row
// stand in the order of the rows that they come from.
struct TransposedRows {
  Tensor ids;  // int32 [rows]: what columns they were, increasing
  SparseRows rows;
};
// On the CPU. `columns` of the matrix.
TransposedRows transpose(const std::string& name, const SparseRows&, int64_t columns);

}  // namespace sketchgrad
