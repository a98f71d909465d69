#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_select.cuh>
#include <thrust/iterator/counting_iterator.h>

#include <algorithm>

#include "sketchgrad/kernels/cuda_policy.cuh"
#include "sketchgrad/kernels/cuda_read.cuh"
#include "sketchgrad/kernels/rows_impl.h"
#include "sketchgrad/kernels/rows_sorting.h"

namespace sketchgrad::kernels::cuda {

namespace {

// Calls a CUB algorithm with the workspace that it asks for: call(workspace, bytes).
template <class Call>
void with_workspace(const Exec& exec, const Call& call) {
  size_t bytes = 0;
  SG_CUDA_CHECK(call(nullptr, bytes));
  const ScratchArray<char> workspace(exec, static_cast<int64_t>(std::max<size_t>(bytes, 1)),
                                     "cub.workspace", ScratchKind::indices);
  SG_CUDA_CHECK(call(workspace.data(), bytes));
}

// See group_by_sorting.
struct CubAlgorithms {
  const Exec& exec;
  cudaStream_t stream = static_cast<cudaStream_t>(exec.stream);

  void sort(const uint32_t* keys, const int32_t* items, uint32_t* sorted_keys,
            int32_t* sorted_items, int64_t count, int key_bits) const {
    with_workspace(exec, [&](void* workspace, size_t& bytes) {
      return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys, sorted_keys, items,
                                             sorted_items, count, 0, key_bits, stream);
    });
  }
  template <class Rule>
  void select(int64_t count, const Rule& rule, int32_t* places, int32_t* number) const {
    with_workspace(exec, [&](void* workspace, size_t& bytes) {
      return cub::DeviceSelect::If(workspace, bytes, thrust::counting_iterator<int32_t>(0), places,
                                   number, count, rule, stream);
    });
  }
};

template <class Rule>
int64_t find_first(const Exec& exec, int64_t count, const Rule& rule) {
  const auto to_host = [&](const auto&... arguments) { return reduce_to_host(exec, arguments...); };
  return find_first_by_reducing(to_host, count, rule);
}

}  // namespace

void gather_rows(const Exec& exec, ConstMatrix table, const int32_t* ids, int32_t padding_id,
                 Matrix out) {
  impl::gather_rows(CudaPolicy{exec}, table, ids, padding_id, out);
}

void scatter_add_rows(const Exec& exec, ConstMatrix rows, const int32_t* ids, float scale,
                      Matrix table) {
  impl::scatter_add_rows(CudaPolicy{exec}, rows, ids, scale, table);
}

int64_t find_out_of_range(const Exec& exec, const int32_t* ids, int64_t count, int64_t limit,
                          int32_t low) {
  return find_first(exec, count, OutOfRange::of(ids, limit, low));
}

int64_t find_not_increasing(const Exec& exec, const int32_t* ids, int64_t count) {
  const int64_t i = find_first(exec, count - 1, NextNotAbove{ids});
  return i < 0 ? -1 : i + 1;
}

int64_t count_id(const Exec& exec, const int32_t* ids, int64_t count, int32_t id) {
  return reduce_to_host(exec, count, CountWhere<IdIs>{{ids, id}}, Plus{}, int64_t{0});
}

void copy_other_ids(const Exec& exec, const int32_t* ids, int64_t count, int32_t id,
                    int32_t* other_ids, int32_t* places) {
  copy_other_ids_by_selecting(CudaPolicy{exec}, exec, CubAlgorithms{exec}, ids, count, id,
                              other_ids, places);
}

Groups group_by_key(const Exec& exec, const int32_t* item_keys, int64_t items, int64_t key_limit,
                    int32_t* keys, int32_t* begin, int32_t* order) {
  return group_by_sorting(CudaPolicy{exec}, exec, CubAlgorithms{exec}, item_keys, items, key_limit,
                          keys, begin, order);
}

void csr_matmul(const Exec& exec, const CsrMatrix& a, ConstMatrix table, Matrix out) {
  for_each_row(CudaPolicy{exec}, a.rows, table.cols, MultiplyCsrRow{a, table, out});
}

void sum_groups(const Exec& exec, const Groups& groups, ConstMatrix values, Matrix out) {
  for_each_row(CudaPolicy{exec}, groups.count, values.cols, SumGroup{groups, values, out});
}

}  // namespace sketchgrad::kernels::cuda
