#pragma once

#include "sketchgrad/framework/tensor.h"

namespace sketchgrad {

// Gradient of a table [table_rows, D] of which few rows were used; a vector has D = 1. Storage is
// proportional to the rows touched. Coalesced: ids strictly increasing. Otherwise an id may stand
// several times; the gradient of a row is the sum of its entries. On CUDA the host does not wait to
// know how many rows coalescing has left: entries behind the last one have the id -1 and the value
// 0. Before that, too, an entry with the id -1 (padding) is of no row there.
struct RowSparse {
  int64_t table_rows = 0;
  Tensor ids;     // int32 [K], each in [0, table_rows); on the device of the values
  Tensor values;  // float32 [K, D]
  bool coalesced = false;
  // Whoever made the ids has looked at them: coalesce does not do it again, which on CUDA would
  // wait for all queued work.
  bool checked = false;

  int64_t count() const { return ids.defined() ? ids.numel() : 0; }
};

// Sums entries of the same row, in order of entry (over `parts` in their order): the same bits for
// any number of threads. All parts belong to one table. A single part that is coalesced is passed
// on. Throws InvalidArgument naming place and value of an id outside the table, or of one that does
// not increase in such a part, unless the part is `checked`.
RowSparse coalesce(const std::vector<RowSparse>& parts);

}  // namespace sketchgrad
