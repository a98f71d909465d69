#pragma once

#include <algorithm>
#include <cstdint>
#include <variant>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/factors_rules.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/reduce_impl.h"

namespace sketchgrad::kernels {

// The device bodies behind factors.h.
namespace cpu {
void reduce_rows(const Exec&, const FactorElement&, float* out);
void reduce_columns(const Exec&, const FactorElement&, float* out);
void sum_of_entries(const Exec&, const EntryElement&, int64_t count, float* out);
void sum_of_products(const Exec&, const EntryProduct&, int64_t count, double* out);
void for_each_factor(const Exec&, const FactorLoop&, int64_t count);
}  // namespace cpu
namespace cuda {
void reduce_rows(const Exec&, const FactorElement&, float* out);
void reduce_columns(const Exec&, const FactorElement&, float* out);
void sum_of_entries(const Exec&, const EntryElement&, int64_t count, float* out);
void sum_of_products(const Exec&, const EntryProduct&, int64_t count, double* out);
void for_each_factor(const Exec&, const FactorLoop&, int64_t count);
}  // namespace cuda

namespace impl {

// Results side by side, which the compiler puts into vector registers.
inline constexpr int64_t kFactorLanes = 16;

// f(0), ..., f(count - 1), reduced.
template <class Op, class F>
double reduce_lanes(const F& f, int64_t count) {
  double lanes[kFactorLanes] = {};
  const int64_t whole = count / kFactorLanes * kFactorLanes;
  for (int64_t i = 0; i < whole; i += kFactorLanes) {
#pragma omp simd
    for (int64_t l = 0; l < kFactorLanes; ++l) lanes[l] = Op::of(lanes[l], f(i + l));
  }
  for (int64_t i = whole; i < count; ++i) lanes[i - whole] = Op::of(lanes[i - whole], f(i));
  double result = lanes[0];
  for (int64_t l = 1; l < kFactorLanes; ++l) result = Op::of(result, lanes[l]);
  return result;
}

template <class Policy>
void reduce_rows(const Policy& policy, const FactorElement& any, float* out) {
  std::visit(
      [&](const auto& element) {
        using Op = typename std::decay_t<decltype(element)>::Op;
        const ConstMatrix g = element.gradient;
        for_each_range(policy, g.rows, kBlockElements / std::max<int64_t>(g.cols, 1),
                       [&](int64_t begin, int64_t end) {
                         for (int64_t r = begin; r < end; ++r) {
                           out[r] =
                               element.skip(r)
                                   ? 0.0f
                                   : static_cast<float>(reduce_lanes<Op>(element.row(r), g.cols));
                         }
                       });
      },
      any);
}

template <class Policy>
void reduce_columns(const Policy& policy, const Exec& exec, const FactorElement& any, float* out) {
  std::visit(
      [&](const auto& element) {
        reduce_columns(policy, exec, element, element.gradient.rows, element.gradient.cols,
                       StoreColumn{out});
      },
      any);
}

template <class Policy, class Element, class Out>
void sum_of_entries(const Policy& policy, const Exec& exec, const Element& element, int64_t count,
                    Out* out) {
  const int64_t blocks = (count + kBlockElements - 1) / kBlockElements;
  const ScratchArray<double> partial(exec, blocks, "factors.partial");
  for_each_range(policy, count, kBlockElements, [&](int64_t begin, int64_t end) {
    partial[begin / kBlockElements] =
        reduce_lanes<AddUp>([&](int64_t i) { return element(begin + i); }, end - begin);
  });
  double total = 0.0;
  for (int64_t b = 0; b < blocks; ++b) total += partial[b];
  *out = static_cast<Out>(total);
}

template <class Policy>
void for_each_factor(const Policy& policy, const FactorLoop& loop, int64_t count) {
  std::visit([&](const auto& body) { for_each(policy, count, body); }, loop);
}

}  // namespace impl
}  // namespace sketchgrad::kernels
