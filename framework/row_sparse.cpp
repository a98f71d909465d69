#include "sketchgrad/framework/row_sparse.h"

#include <algorithm>
#include <limits>

#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {
namespace {

void check_part(const RowSparse& part, const RowSparse& first) {
  check(part.ids.defined() && part.values.defined(), "[coalesce] an undefined row-sparse gradient");
  check(part.ids.dim() == 1 && part.values.dim() == 2 && part.values.size(0) == part.count(),
        "[coalesce] ids {} and values {}, they must be [K] and [K, D]", to_string(part.ids.shape()),
        to_string(part.values.shape()));
  check(part.table_rows == first.table_rows && part.values.size(1) == first.values.size(1),
        "[coalesce] parts of a [{}, {}] and of a [{}, {}] table", first.table_rows,
        first.values.size(1), part.table_rows, part.values.size(1));
}

int32_t id_at(const RowSparse& entries, int64_t place) {
  return entries.ids.rows(place, 1).to_vector<int32_t>()[0];
}

void check_ids(const RowSparse& entries) {
  const int64_t place = kernels::find_out_of_range(entries.ids.exec(), entries.ids.data<int32_t>(),
                                                   entries.count(), entries.table_rows);
  if (place < 0) return;
  throw InvalidArgument(fmt::format("[coalesce] row {} (entry {}) is outside a table of {} rows",
                                    id_at(entries, place), place, entries.table_rows));
}

void check_increasing(const RowSparse& entries) {
  const int64_t place = kernels::find_not_increasing(entries.ids.exec(),
                                                     entries.ids.data<int32_t>(), entries.count());
  if (place < 0) return;
  throw InvalidArgument(
      fmt::format("[coalesce] row {} (entry {}) follows row {} in a part that is said to be "
                  "coalesced, its rows must increase",
                  id_at(entries, place), place, id_at(entries, place - 1)));
}

RowSparse concatenate(const std::vector<RowSparse>& parts, int64_t count) {
  const int64_t cols = parts[0].values.size(1);
  const Device device = parts[0].ids.device();
  RowSparse all;
  all.table_rows = parts[0].table_rows;
  all.checked =
      std::all_of(parts.begin(), parts.end(), [](const RowSparse& part) { return part.checked; });
  all.ids = Tensor::empty({count}, {Category::index, "coalesce.ids"}, DType::int32, device);
  all.values = Tensor::empty({count, cols}, {Category::workspace, "coalesce.values"},
                             DType::float32, device);
  int64_t row = 0;
  for (const RowSparse& part : parts) {
    all.ids.rows(row, part.count()).copy_from(part.ids);
    all.values.rows(row, part.count()).copy_from(part.values);
    row += part.count();
  }
  return all;
}

RowSparse sum_entries(const RowSparse& entries) {
  const kernels::Exec exec = entries.ids.exec();
  const int64_t count = entries.count();
  const Tensor keys = Tensor::empty({count}, {Category::index, "coalesce.keys"}, DType::int32,
                                    entries.ids.device());
  const kernels::ScratchArray<int32_t> begin(exec, count + 1, "coalesce.begin",
                                             kernels::ScratchKind::indices);
  const kernels::ScratchArray<int32_t> order(exec, count, "coalesce.order",
                                             kernels::ScratchKind::indices);
  kernels::Groups groups =
      kernels::group_by_key(exec, entries.ids.data<int32_t>(), count, entries.table_rows,
                            keys.data<int32_t>(), begin.data(), order.data());
  groups.count = std::min(groups.count, entries.table_rows);  // on CUDA some may be empty
  const Device device = entries.ids.device();
  RowSparse result;
  result.table_rows = entries.table_rows;
  result.coalesced = true;
  result.checked = true;
  result.ids = Tensor::empty({groups.count}, {Category::index, "row_ids"}, DType::int32, device);
  result.values = Tensor::empty({groups.count, entries.values.size(1)},
                                {Category::gradient, "row_values"}, DType::float32, device);
  result.ids.copy_from(keys.rows(0, groups.count));
  kernels::sum_groups(exec, groups, entries.values.matrix(), result.values.matrix());
  return result;
}

}  // namespace

RowSparse coalesce(const std::vector<RowSparse>& parts) {
  check(!parts.empty(), "[coalesce] no parts");
  int64_t count = 0;
  for (const RowSparse& part : parts) {
    check_part(part, parts[0]);
    count += part.count();
  }
  check(count <= std::numeric_limits<int32_t>::max(), "[coalesce] {} entries, at most 2^31 - 1",
        count);
  if (parts.size() == 1) {
    const RowSparse& part = parts[0];
    if (!part.checked) check_ids(part);
    if (!part.coalesced) return sum_entries(part);
    if (!part.checked) check_increasing(part);
    return part;
  }
  const RowSparse all = concatenate(parts, count);
  if (!all.checked) check_ids(all);
  return sum_entries(all);
}

}  // namespace sketchgrad
