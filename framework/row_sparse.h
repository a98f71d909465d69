#pragma once

#include "sketchgrad/framework/tensor.h"

namespace sketchgrad {

// Gradient of a table of which few rows were used. Storage is proportional to the rows touched.
// Coalesced: ids strictly increasing. Otherwise an id may stand several times; the gradient of a
// row is the sum of its entries.
struct RowSparse {
  int64_t table_rows = 0;
  Tensor ids;     // int32 [K], each in [0, table_rows)
  Tensor values;  // float32 [K, D]
  bool coalesced = false;

  int64_t count() const { return ids.defined() ? ids.numel() : 0; }
};

// Sums entries of the same row, in order of entry (over `parts` in their order): the same bits for
// any number of threads. All parts belong to one table. A single part that is coalesced is passed
// on. Throws InvalidArgument naming place and value of an id outside the table, or of one that does
// not increase in such a part.
RowSparse coalesce(const std::vector<RowSparse>& parts);

}  // namespace sketchgrad
