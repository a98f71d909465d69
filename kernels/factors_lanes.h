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
        reduce_columns_by_lanes(policy, exec, element, element.gradient.rows, element.gradient.cols,
                                StoreColumn{out});
      },
      any);
}

template <class Policy>
void sum_of_entries_by_lanes(const Policy& policy, const Exec& exec, const EntryElement& element,
                             int64_t count, float* out) {
  reduce_by_lanes(policy, exec, count, element, Plus{}, 0.0, StoreScaled{1.0, out});
}

template <class Policy>
void sum_of_products_by_lanes(const Policy& policy, const Exec& exec, const EntryProduct& element,
                              int64_t count, double* out) {
  reduce_by_lanes(policy, exec, count, element, Plus{}, 0.0, StoreResult<double>{out});
}

}  // namespace sketchgrad::kernels
