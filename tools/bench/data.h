#pragma once

#include <cstdint>
#include <vector>

#include "sketchgrad/framework/row_sparse.h"

// Synthetic inputs on the measured device; the same numbers in every run.
namespace sketchgrad::bench {

Tensor random_tensor(const Shape& shape, float range, Category category = Category::activation);

// `count` different rows of [0, rows), sorted, each as likely as another.
std::vector<int32_t> uniform_rows(int64_t rows, int64_t count);
// `count` ids of [0, rows), id i drawn with a probability proportional to 1 / (1 + i).
std::vector<int32_t> zipf_ids(int64_t rows, int64_t count);
std::vector<int32_t> sorted_unique(std::vector<int32_t> ids);

Tensor zeros(const Shape& shape);

Tensor id_tensor(const std::vector<int32_t>& ids, const Shape& shape);
// Coalesced gradient of sorted rows, with random values.
RowSparse random_gradient(int64_t table_rows, int64_t dim, const std::vector<int32_t>& rows);

}  // namespace sketchgrad::bench
