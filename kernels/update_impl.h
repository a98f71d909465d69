#pragma once

#include <cstdint>
#include <type_traits>
#include <variant>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/prefetch.h"
#include "sketchgrad/kernels/update.h"

namespace sketchgrad::kernels {

namespace cpu {
void update_rows(const Exec&, const UpdateRule&, const ElementAccess&, const ElementAccess&,
                 const int32_t* ids, ConstMatrix gradient, Matrix parameter);
void update_pieces(const Exec&, const UpdateRule&, const StateAccess&, const StateAccess&,
                   const int32_t* ids, ConstMatrix gradient, Matrix parameter);
}  // namespace cpu
namespace cuda {
void update_rows(const Exec&, const UpdateRule&, const ElementAccess&, const ElementAccess&,
                 const int32_t* ids, ConstMatrix gradient, Matrix parameter);
void update_pieces(const Exec&, const UpdateRule&, const StateAccess&, const StateAccess&,
                   const int32_t* ids, ConstMatrix gradient, Matrix parameter);
}  // namespace cuda

// Gradient, parameter and two auxiliary variables.
inline constexpr int64_t kUpdateStreams = 4;

template <class Access>
void prefetch_state(const Access& access, int64_t id, int64_t first, int64_t last) {
  if constexpr (std::is_same_v<Access, DenseState>) {
    prefetch_floats(access.state.row(id) + first, last - first);
  }
}

template <class Rule, class First, class Second>
struct UpdateElement {
  Rule rule;
  typename First::Row first;
  typename Second::Row second;
  const float* gradient;
  float* parameter;
  SG_HD void operator()(int64_t c) const {
    const float g = gradient[c];
    const float w = parameter[c];
    const float old1 = first.load(c);
    const float old2 = second.load(c);
    const float x1 = first.next(old1, g);
    const float x2 = second.next(old2, g);
    first.store(c, x1);
    second.store(c, x2);
    parameter[c] = rule(w, g, x1, x2);
  }
};

template <class Rule, class First, class Second>
struct UpdateRow {
  Rule rule;
  First first;
  Second second;
  const int32_t* ids;
  ConstMatrix gradient;
  Matrix parameter;
  SG_HD UpdateElement<Rule, First, Second> operator()(int64_t r) const {
    const int64_t id = ids != nullptr ? ids[r] : r;
    return {rule, first.row(r, id), second.row(r, id), gradient.row(r), parameter.row(id)};
  }
  SG_HD bool skip(int64_t r) const { return ids != nullptr && ids[r] < 0; }
  static constexpr int64_t kStreams = kUpdateStreams;
  void prefetch(int64_t r, int64_t from, int64_t to) const {
    if (ids == nullptr) return;
    prefetch_floats(gradient.row(r) + from, to - from);
    prefetch_floats(parameter.row(ids[r]) + from, to - from);
    prefetch_state(first, ids[r], from, to);
    prefetch_state(second, ids[r], from, to);
  }
};

template <class Policy>
void update_rows_impl(const Policy& policy, const UpdateRule& any_rule,
                      const ElementAccess& any_first, const ElementAccess& any_second,
                      const int32_t* ids, ConstMatrix gradient, Matrix parameter) {
  std::visit(
      [&](const auto& rule, const auto& first, const auto& second) {
        for_each_row(policy, gradient.rows, gradient.cols,
                     UpdateRow<std::decay_t<decltype(rule)>, std::decay_t<decltype(first)>,
                               std::decay_t<decltype(second)>>{rule, first, second, ids, gradient,
                                                               parameter});
      },
      any_rule, any_first, any_second);
}

}  // namespace sketchgrad::kernels
