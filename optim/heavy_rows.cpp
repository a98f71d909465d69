#include "sketchgrad/optim/heavy_rows.h"

#include <algorithm>
#include <set>

#include "sketchgrad/framework/check.h"

namespace sketchgrad {

HeavyRows::HeavyRows(const StateMemoryContext& context, int64_t slots)
    : name_(context.name),
      rows_(context.rows),
      owners_(Tensor::from(std::vector<int32_t>(static_cast<size_t>(slots), -1),
                           {slots / kernels::kSetWays, kernels::kSetWays},
                           {Category::optimizer_state, context.name + ".owners"}, context.device)),
      weights_(Tensor::from(std::vector<float>(static_cast<size_t>(slots)), owners_.shape(),
                            {Category::optimizer_state, context.name + ".weights"},
                            context.device)) {}

const StepRows::SlotClaims& HeavyRows::claim(StepRows& rows, uint64_t seed) const {
  StepRows::SlotClaims& claims = rows.claims(seed, owners_.numel());
  if (claims.owners.defined()) {
    owners_.copy_from(claims.owners);
    weights_.copy_from(claims.weights);
    return claims;
  }
  const float* const energies = rows.row_sums(/*squared=*/true);
  for (Tensor* const index : {&claims.slots, &claims.previous}) {
    *index = Tensor::empty({rows.count()}, {Category::index, "heavy.slots"}, DType::int32,
                           rows.device());
  }
  kernels::claim_slots(rows.exec(),
                       {owners_.data<int32_t>(), weights_.data<float>(), owners_.size(0), seed},
                       rows.ids(), energies, rows.count(), rows.step(), claims.view());
  claims.owners = owners_;
  claims.weights = weights_;
  return claims;
}

void HeavyRows::check_loaded(const std::string& source, uint64_t seed) const {
  const std::vector<int32_t> owners = owners_.to_vector<int32_t>();
  const std::vector<float> weights = weights_.to_vector<float>();
  const kernels::HeavySets sets{.sets = owners_.size(0), .seed = seed};
  const auto refuse = [&](size_t slot, const std::string& why) {
    throw DataError(source, 0, fmt::format("{}: slot {} {}", name_, slot, why));
  };
  std::set<int32_t> seen;
  for (size_t slot = 0; slot < owners.size(); ++slot) {
    const int32_t owner = owners[slot];
    if (!(weights[slot] >= 0.0f)) refuse(slot, fmt::format("has a weight of {}", weights[slot]));
    if (owner == -1) continue;
    if (owner < 0 || owner >= rows_) refuse(slot, fmt::format("is of row {} of {}", owner, rows_));
    const auto set = static_cast<int64_t>(slot) / kernels::kSetWays;
    if (sets.set_of(owner) != set) refuse(slot, fmt::format("is of row {}, of another set", owner));
    if (!seen.insert(owner).second)
      refuse(slot, fmt::format("is of row {}, as another one", owner));
  }
}

}  // namespace sketchgrad
