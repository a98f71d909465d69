#pragma once

#include <cstdint>
#include <type_traits>

#include "sketchgrad/kernels/macros.h"

namespace sketchgrad::kernels {

// Row-major matrix that somebody else owns: element (r, c) lies at data[r * stride + c].
template <class T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  SG_HD T* row(int64_t r) const { return data + r * stride; }
  SG_HD T& operator()(int64_t r, int64_t c) const { return data[r * stride + c]; }
  // Columns [begin, begin + count).
  SG_HD MatrixView columns(int64_t begin, int64_t count) const {
    return {data + begin, rows, count, stride};
  }
  // Rows [begin, begin + count).
  SG_HD MatrixView row_range(int64_t begin, int64_t count) const {
    return {data + begin * stride, count, cols, stride};
  }
  // A template, because nvcc warns of a conversion of MatrixView<const T> to itself.
  template <class U, class = std::enable_if_t<std::is_same_v<U, const T> && !std::is_const_v<T>>>
  SG_HD operator MatrixView<U>() const {
    return {data, rows, cols, stride};
  }
};

// Sparse matrix in compressed rows (CSR) that somebody else owns: row r has the entries begin[r]
// ... begin[r + 1] - 1, each with its column and value.
struct CsrMatrix {
  int64_t rows = 0;
  const int32_t* begin = nullptr;    // [rows + 1], from 0 on, not falling
  const int32_t* columns = nullptr;  // [entries]
  const float* values = nullptr;     // [entries]; null: all are 1
};

using Matrix = MatrixView<float>;
using ConstMatrix = MatrixView<const float>;

template <class T>
SG_HD MatrixView<T> contiguous(T* data, int64_t rows, int64_t cols) {
  return {data, rows, cols, cols};
}

}  // namespace sketchgrad::kernels
