#include "sketchgrad/tools/bench/data.h"

#include <algorithm>

#include "sketchgrad/kernels/philox.h"
#include "sketchgrad/kernels/random.h"
#include "sketchgrad/tools/bench/measure.h"

namespace sketchgrad::bench {

namespace {

constexpr uint64_t kSeed = 7;
enum Draw : uint64_t { kValues, kUniformRows, kZipfIds };

uint32_t random_bits(Draw draw, uint64_t index) { return kernels::philox(kSeed, draw, index).v[0]; }

}  // namespace

Tensor random_tensor(const Shape& shape, float range, Category category) {
  Tensor tensor = Tensor::empty(shape, {category, "bench"}, DType::float32, device());
  kernels::fill_uniform(tensor.exec(), {kSeed, kValues}, -range, range, tensor.data<float>(),
                        tensor.numel());
  return tensor;
}

std::vector<int32_t> uniform_rows(int64_t rows, int64_t count) {
  count = std::min(count, rows);
  std::vector<bool> taken(static_cast<size_t>(rows), false);
  std::vector<int32_t> result;
  for (uint64_t i = 0; static_cast<int64_t>(result.size()) < count; ++i) {
    const uint64_t row =
        (uint64_t{random_bits(kUniformRows, i)} * static_cast<uint64_t>(rows)) >> 32;
    if (taken[row]) continue;
    taken[row] = true;
    result.push_back(static_cast<int32_t>(row));
  }
  std::sort(result.begin(), result.end());
  return result;
}

std::vector<int32_t> zipf_ids(int64_t rows, int64_t count) {
  std::vector<double> cumulative(static_cast<size_t>(rows));
  double total = 0.0;
  for (size_t i = 0; i < cumulative.size(); ++i) {
    total += 1.0 / static_cast<double>(1 + i);
    cumulative[i] = total;
  }
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    const double draw = total * random_bits(kZipfIds, static_cast<uint64_t>(i)) / 4294967296.0;
    const auto place = std::upper_bound(cumulative.begin(), cumulative.end(), draw);
    ids.push_back(static_cast<int32_t>(std::min<int64_t>(place - cumulative.begin(), rows - 1)));
  }
  return ids;
}

std::vector<int32_t> sorted_unique(std::vector<int32_t> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

Tensor zeros(const Shape& shape) {
  return Tensor::zeros(shape, {Category::activation, "bench"}, DType::float32, device());
}

Tensor id_tensor(const std::vector<int32_t>& ids, const Shape& shape) {
  return Tensor::from(ids, shape, {Category::data, "bench.ids"}, device());
}

RowSparse random_gradient(int64_t table_rows, int64_t dim, const std::vector<int32_t>& rows) {
  const int64_t count = static_cast<int64_t>(rows.size());
  return {table_rows, id_tensor(rows, {count}),
          random_tensor({count, dim}, 0.01f, Category::gradient), /*coalesced=*/true,
          /*checked=*/device() != kCpu};
}

}  // namespace sketchgrad::bench
