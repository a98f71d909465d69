#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

// Rows of tables: gather, scatter, and the sort by which items that share a key are combined in a
// fixed order.
namespace sketchgrad::kernels {

// out(i, :) = table(ids[i], :), or 0 where ids[i] == padding_id (pass -1 for none).
// Shapes: ids [out.rows], each in [0, table.rows).
void gather_rows(const Exec&, ConstMatrix table, const int32_t* ids, int32_t padding_id,
                 Matrix out);

// table(ids[i], :) += scale * rows(i, :). The ids must be distinct; those below 0 are no rows.
void scatter_add_rows(const Exec&, ConstMatrix rows, const int32_t* ids, float scale, Matrix table);

// The three that follow return to the host. On CUDA they wait for all work on the stream.

// The first i with ids[i] outside [low, limit), or -1; low <= 0.
int64_t find_out_of_range(const Exec&, const int32_t* ids, int64_t count, int64_t limit,
                          int32_t low = 0);

// The first i > 0 with ids[i] <= ids[i - 1], or -1.
int64_t find_not_increasing(const Exec&, const int32_t* ids, int64_t count);

// The number of i with ids[i] == id.
int64_t count_id(const Exec&, const int32_t* ids, int64_t count, int32_t id);

// The ids that are not `id`, in their order, and their places. The caller gives the arrays:
// other_ids, places [count - count_id(ids, count, id)].
void copy_other_ids(const Exec&, const int32_t* ids, int64_t count, int32_t id, int32_t* other_ids,
                    int32_t* places);

// Items grouped by key, in order of key; inside a group in order of item.
// Group g holds items order[begin[g]] ... order[begin[g + 1] - 1], all of key keys[g].
// On CUDA the host does not wait to know how many groups there are: `count` is the number of items,
// and groups behind the last one are empty, with the key -1. Items of a key below 0 are of no
// group: they stand at the end, perhaps in a group of key -1.
struct Groups {
  int64_t count = 0;               // number of groups
  const int32_t* keys = nullptr;   // [count]
  const int32_t* begin = nullptr;  // [count + 1]
  const int32_t* order = nullptr;  // [number of items]
};

// Groups `items` keys, each in [0, key_limit) (on CUDA also below 0, for no group), by a stable
// radix sort: O(items), whatever key_limit. The caller gives the arrays: keys [items], begin [items
// + 1], order [items]. items < 2^31.
Groups group_by_key(const Exec&, const int32_t* item_keys, int64_t items, int64_t key_limit,
                    int32_t* keys, int32_t* begin, int32_t* order);

// out = a table: out(r, :) = sum over the entries of row r of value * table(column, :), in their
// order; 0 for a row without entries. Shapes: a [out.rows, table.rows], out [out.rows, D].
void csr_matmul(const Exec&, const CsrMatrix& a, ConstMatrix table, Matrix out);

// out(g, :) = sum of values(item, :) over the group's items, in order of item; 0 for a group of key
// -1. Shape: out [groups, D].
void sum_groups(const Exec&, const Groups&, ConstMatrix values, Matrix out);

}  // namespace sketchgrad::kernels
