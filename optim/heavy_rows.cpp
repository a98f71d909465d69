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

HeavyRows::Claims HeavyRows::claim(StepRows& rows, uint64_t seed) const {
  const int64_t count = rows.count();
  const auto index = [&](const char* name) {
    return Tensor::empty({count}, {Category::index, name}, DType::int32, rows.device());
  };
  Claims claims{index("heavy.slots"), index("heavy.previous")};
  kernels::claim_slots(
      rows.exec(), {owners_.data<int32_t>(), weights_.data<float>(), owners_.size(0), seed},
      rows.ids(), rows.row_sums(/*squared=*/true), count, rows.step(), claims.view());
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
