#pragma once

#include <algorithm>
#include <cstdint>
#include <variant>

#include "sketchgrad/kernels/factors_rules.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lane_group.h"
#include "sketchgrad/kernels/reduce_lanes.h"

// The reductions of factors.h on the GPU: a row by a lane group, a column by slices of rows.
namespace sketchgrad::kernels {

template <class Op>
struct CombineBy {
  SG_HD double operator()(double a, double b) const { return Op::of(a, b); }
};

template <class Element>
struct ReduceFactorRow {
  Element element;
  float* out;
  template <class Group>
  SG_HD void operator()(const Group& group, int64_t r) const {
    using Op = typename Element::Op;
    double result = 0.0;
    if (!element.skip(r)) {
      const auto row = element.row(r);
      for (int64_t c = group.lane(); c < element.gradient.cols; c += group.lanes()) {
        result = Op::of(result, row(c));
      }
    }
    result = combine_over_lanes(group, result, CombineBy<Op>{});
    if (group.lane() == 0) out[r] = static_cast<float>(result);
  }
};

template <class Element>
struct ReduceFactorSlice {
  Element element;
  double* partial;  // [slices, columns]
  struct Column {
    Element element;
    int64_t begin;
    int64_t end;
    double* partial;
    SG_HD void operator()(int64_t c) const {
      double result = 0.0;
      for (int64_t r = begin; r < end; ++r) {
        if (!element.skip(r)) result = Element::Op::of(result, element.row(r)(c));
      }
      partial[c] = result;
    }
  };
  SG_HD Column operator()(int64_t slice) const {
    const int64_t begin = slice * kLaneRows;
    const int64_t rows = element.gradient.rows;
    return {element, begin, begin + kLaneRows < rows ? begin + kLaneRows : rows,
            partial + slice * element.gradient.cols};
  }
};

template <class Op>
struct ReduceFactorSlices {
  const double* partial;
  int64_t slices;
  int64_t cols;
  float* out;
  SG_HD void operator()(int64_t c) const {
    double result = 0.0;
    for (int64_t s = 0; s < slices; ++s) result = Op::of(result, partial[s * cols + c]);
    out[c] = static_cast<float>(result);
  }
};

template <class Policy>
void reduce_factor_rows_by_lanes(const Policy& policy, const FactorElement& any, float* out) {
  std::visit(
      [&](const auto& element) {
        using Element = std::decay_t<decltype(element)>;
        for_each_unit(policy, element.gradient.rows, kWarpLanes,
                      ReduceFactorRow<Element>{element, out});
      },
      any);
}

template <class Policy>
void reduce_factor_columns_by_lanes(const Policy& policy, const Exec& exec,
                                    const FactorElement& any, float* out) {
  std::visit(
      [&](const auto& element) {
        using Element = std::decay_t<decltype(element)>;
        const int64_t cols = element.gradient.cols;
        const int64_t slices = (element.gradient.rows + kLaneRows - 1) / kLaneRows;
        const ScratchArray<double> partial(exec, slices * cols, "factors.partial");
        for_each_row(policy, slices, cols, ReduceFactorSlice<Element>{element, partial.data()});
        for_each(policy, cols,
                 ReduceFactorSlices<typename Element::Op>{partial.data(), slices, cols, out});
      },
      any);
}

template <class Policy>
void sum_of_entries_by_lanes(const Policy& policy, const Exec& exec, const EntryElement& element,
                             int64_t count, float* out) {
  reduce_by_lanes(policy, exec, count, element, CombineBy<AddUp>{}, 0.0, StoreScaled{1.0, out});
}

}  // namespace sketchgrad::kernels
