#include "sketchgrad/optim/rank_one_l2_memory.h"

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/factors.h"
#include "sketchgrad/kernels/random.h"

namespace sketchgrad {

RankOneL2Memory::RankOneL2Memory(const StateMemoryContext& context)
    : left_(state_floats(context, "left", context.rows)),
      right_(state_floats(context, "right", context.dim)) {
  const kernels::Exec exec = right_.exec();
  float* const v = right_.data<float>();
  const bool with_signs = context.role == MomentRole::first && context.dim > 1;
  const uint64_t part = context.role == MomentRole::first ? 1 : 2;  // the moments begin apart
  kernels::fill_uniform(exec, {context.hash_seed, part}, with_signs ? -1.0f : 0.5f, 1.0f, v,
                        context.dim);
  const kernels::ScratchArray<double> squares(exec, 1, "rank_one.squares");
  kernels::sum_of_products(exec, nullptr, context.dim, v, v, squares.data());
  kernels::over_length(exec, {squares.data()}, context.dim, v);
}

int64_t RankOneL2Memory::planned_bytes(const StateMemoryContext& context) {
  return (context.rows + context.dim) * static_cast<int64_t>(sizeof(float));
}

kernels::StateAccess RankOneL2Memory::begin(StepRows&, const kernels::Accumulate& accumulate) {
  accumulate_ = accumulate;
  return kernels::FactoredState{left_.data<float>(), right_.data<float>(), false, accumulate};
}

// M = k v^T + scale X: k is u, of which the active rows have decayed, and X the inputs of those.
void RankOneL2Memory::end(StepRows& step) {
  const kernels::Exec& exec = step.exec();
  const kernels::ConstMatrix& gradient = step.gradient();
  const int32_t* const ids = step.ids();
  const bool squared = accumulate_.squared;
  const float scale = accumulate_.scale;
  const int64_t count = step.count(), rows = left_.numel(), dim = right_.numel();
  const kernels::ScratchArray<float> products(exec, count, "rank_one.products");    // X v
  const kernels::ScratchArray<float> projected(exec, count, "rank_one.projected");  // p of A
  const kernels::ScratchArray<float> next(exec, dim, "rank_one.next");              // the new v
  const kernels::ScratchArray<double> sums(exec, 5, "rank_one.sums");
  double* const kept_squares = sums.data();           // k . k
  double* const kept_products = sums.data() + 1;      // k . X v
  double* const projected_squares = sums.data() + 2;  // |p|^2 of A
  double* const squares = sums.data() + 3;            // of the new v, before it has length 1
  double* const cosine = sums.data() + 4;             // of the old and the new v
  float* const u = left_.data<float>();
  float* const v = right_.data<float>();

  kernels::row_products(exec, ids, gradient, squared, v, products.data());
  kernels::Accumulate kept = accumulate_;
  kept.scale = 0.0f;
  kernels::advance_entries(exec, ids, count, kept, products.data(), u);
  kernels::add_to_entries(exec, ids, count, u, scale, products.data(), projected.data());

  // M^T p = (k . p) v + scale X^T p, over a length, so that products of small numbers do not
  // vanish.
  kernels::sum_of_products(exec, nullptr, rows, u, u, kept_squares);
  kernels::sum_of_products(exec, ids, count, u, products.data(), kept_products);
  kernels::sum_of_products(exec, nullptr, count, projected.data(), projected.data(),
                           projected_squares);
  const kernels::Length length{kept_squares, projected_squares};
  kernels::over_length(exec, length, count, projected.data());
  kernels::column_products(exec, ids, gradient, squared, projected.data(), next.data());
  kernels::combine_columns(exec, {kept_squares, kept_products, length}, scale, v, dim, next.data());
  kernels::sum_of_products(exec, nullptr, dim, next.data(), next.data(), squares);
  kernels::over_length(exec, {squares}, dim, next.data(), v);

  // u = (v . new v) k + scale X new v
  kernels::sum_of_products(exec, nullptr, dim, v, next.data(), cosine);
  kernels::row_products(exec, ids, gradient, squared, next.data(), products.data());
  kernels::multiply_by(exec, cosine, rows, u);
  kernels::advance_entries(exec, ids, count, {1.0f, scale}, products.data(), u);
  kernels::copy(exec, next.data(), v, dim);
}

std::vector<std::pair<std::string, Tensor>> RankOneL2Memory::tensors() const {
  return {{"left", left_}, {"right", right_}};
}

}  // namespace sketchgrad
