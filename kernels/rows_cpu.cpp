#include "sketchgrad/kernels/rows_impl.h"

namespace sketchgrad::kernels::cpu {

void gather_rows(const Exec&, ConstMatrix table, const int32_t* ids, int32_t padding_id,
                 Matrix out) {
  impl::gather_rows(TbbPolicy{}, table, ids, padding_id, out);
}

void scatter_add_rows(const Exec&, ConstMatrix rows, const int32_t* ids, float scale,
                      Matrix table) {
  impl::scatter_add_rows(TbbPolicy{}, rows, ids, scale, table);
}

int64_t find_out_of_range(const Exec& exec, const int32_t* ids, int64_t count, int64_t limit,
                          int32_t low) {
  return impl::find_out_of_range(TbbPolicy{}, exec, ids, count, limit, low);
}

int64_t find_not_increasing(const Exec& exec, const int32_t* ids, int64_t count) {
  return impl::find_not_increasing(TbbPolicy{}, exec, ids, count);
}

int64_t count_id(const Exec& exec, const int32_t* ids, int64_t count, int32_t id) {
  return impl::count_id(TbbPolicy{}, exec, ids, count, id);
}

void copy_other_ids(const Exec&, const int32_t* ids, int64_t count, int32_t id, int32_t* other_ids,
                    int32_t* places) {
  int64_t next = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] == id) continue;
    other_ids[next] = ids[i];
    places[next++] = static_cast<int32_t>(i);
  }
}

Groups group_by_key(const Exec& exec, const int32_t* item_keys, int64_t items, int64_t key_limit,
                    int32_t* keys, int32_t* begin, int32_t* order) {
  return impl::group_by_key(TbbPolicy{}, exec, item_keys, items, key_limit, keys, begin, order);
}

void csr_matmul(const Exec&, const CsrMatrix& a, ConstMatrix table, Matrix out) {
  impl::csr_matmul(TbbPolicy{}, a, table, out);
}

void sum_groups(const Exec&, const Groups& groups, ConstMatrix values, Matrix out) {
  impl::sum_groups(TbbPolicy{}, groups, values, out);
}

}  // namespace sketchgrad::kernels::cpu
