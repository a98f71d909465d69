#include "sketchgrad/kernels/rows.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/rows_impl.h"

namespace sketchgrad::kernels {

namespace {
constexpr int64_t kInt32Limit = int64_t{1} << 31;
}  // namespace

void gather_rows(const Exec& exec, ConstMatrix table, const int32_t* ids, int32_t padding_id,
                 Matrix out) {
  check_matrix("gather_rows", "table", table);
  check_matrix("gather_rows", "out", out);
  check_same_cols("gather_rows", "table", table, "out", out);
  check_array("gather_rows", "ids", ids, out.rows);
  dispatch(exec, cpu::gather_rows, cuda::gather_rows, table, ids, padding_id, out);
}

void scatter_add_rows(const Exec& exec, ConstMatrix rows, const int32_t* ids, float scale,
                      Matrix table) {
  check_matrix("scatter_add_rows", "rows", rows);
  check_matrix("scatter_add_rows", "table", table);
  check_same_cols("scatter_add_rows", "rows", rows, "table", table);
  check_array("scatter_add_rows", "ids", ids, rows.rows);
  if (rows.rows > table.rows) {
    refuse("scatter_add_rows", "{} distinct rows do not fit a table of {}", rows.rows, table.rows);
  }
  dispatch(exec, cpu::scatter_add_rows, cuda::scatter_add_rows, rows, ids, scale, table);
}

int64_t find_out_of_range(const Exec& exec, const int32_t* ids, int64_t count, int64_t limit,
                          int32_t low) {
  check_count("find_out_of_range", "count", count);
  check_array("find_out_of_range", "ids", ids, count);
  if (low > 0) refuse("find_out_of_range", "low is {}, it must not be above 0", low);
  return dispatch_indices(exec, cpu::find_out_of_range, cuda::find_out_of_range, ids, count, limit,
                          low);
}

int64_t find_not_increasing(const Exec& exec, const int32_t* ids, int64_t count) {
  check_count("find_not_increasing", "count", count);
  check_array("find_not_increasing", "ids", ids, count);
  return dispatch_indices(exec, cpu::find_not_increasing, cuda::find_not_increasing, ids, count);
}

int64_t count_id(const Exec& exec, const int32_t* ids, int64_t count, int32_t id) {
  check_count("count_id", "count", count);
  check_array("count_id", "ids", ids, count);
  return dispatch_indices(exec, cpu::count_id, cuda::count_id, ids, count, id);
}

void copy_other_ids(const Exec& exec, const int32_t* ids, int64_t count, int32_t id,
                    int32_t* other_ids, int32_t* places) {
  check_count("copy_other_ids", "count", count);
  if (count >= kInt32Limit) {
    refuse("copy_other_ids", "{} ids, at most 2^31 - 1 can be held", count);
  }
  check_array("copy_other_ids", "ids", ids, count);
  dispatch_indices(exec, cpu::copy_other_ids, cuda::copy_other_ids, ids, count, id, other_ids,
                   places);
}

Groups group_by_key(const Exec& exec, const int32_t* item_keys, int64_t items, int64_t key_limit,
                    int32_t* keys, int32_t* begin, int32_t* order) {
  check_count("group_by_key", "items", items);
  if (items >= kInt32Limit) refuse("group_by_key", "{} items, at most 2^31 - 1 can be held", items);
  if (key_limit > kInt32Limit || (key_limit < 1 && items > 0)) {
    refuse("group_by_key", "key_limit {} is outside [1, 2^31]", key_limit);
  }
  check_array("group_by_key", "item_keys", item_keys, items);
  check_array("group_by_key", "keys", keys, items);
  check_array("group_by_key", "begin", begin, items + 1);
  check_array("group_by_key", "order", order, items);
  return dispatch_indices(exec, cpu::group_by_key, cuda::group_by_key, item_keys, items, key_limit,
                          keys, begin, order);
}

void csr_matmul(const Exec& exec, const CsrMatrix& a, ConstMatrix table, Matrix out) {
  check_matrix("csr_matmul", "table", table);
  check_matrix("csr_matmul", "out", out);
  check_same_cols("csr_matmul", "table", table, "out", out);
  check_count("csr_matmul", "a.rows", a.rows);
  check_array("csr_matmul", "a.begin", a.begin, a.rows);
  if (out.rows != a.rows) refuse("csr_matmul", "out has {} rows for {} of a", out.rows, a.rows);
  dispatch(exec, cpu::csr_matmul, cuda::csr_matmul, a, table, out);
}

void sum_groups(const Exec& exec, const Groups& groups, ConstMatrix values, Matrix out) {
  check_count("sum_groups", "groups.count", groups.count);
  check_array("sum_groups", "groups.keys", groups.keys, groups.count);
  check_array("sum_groups", "groups.begin", groups.begin, groups.count);
  check_array("sum_groups", "groups.order", groups.order, groups.count);
  check_matrix("sum_groups", "values", values);
  check_matrix("sum_groups", "out", out);
  check_same_cols("sum_groups", "values", values, "out", out);
  if (out.rows != groups.count) {
    refuse("sum_groups", "out has {} rows for {} groups", out.rows, groups.count);
  }
  dispatch(exec, cpu::sum_groups, cuda::sum_groups, groups, values, out);
}

}  // namespace sketchgrad::kernels
