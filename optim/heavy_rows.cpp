#include "sketchgrad/optim/heavy_rows.h"

#include "sketchgrad/kernels/factors.h"

namespace sketchgrad {

HeavyRows::HeavyRows(const StateMemoryContext& context, int64_t slots)
    : owners_(Tensor::from(std::vector<int32_t>(static_cast<size_t>(slots), -1),
                           {slots / kernels::kSetWays, kernels::kSetWays},
                           {Category::optimizer_state, context.name + ".owners"}, context.device)),
      weights_(Tensor::zeros(owners_.shape(),
                             {Category::optimizer_state, context.name + ".weights"}, DType::float32,
                             context.device)),
      seed_(context.hash_seed) {}

HeavyRows::Claims HeavyRows::claim(const StepRows& rows) const {
  const int64_t count = rows.count();
  const auto index = [&](const char* name) {
    return Tensor::empty({count}, {Category::index, name}, DType::int32, rows.device());
  };
  const Tensor energy =
      Tensor::empty({count}, {Category::workspace, "heavy.energy"}, DType::float32, rows.device());
  kernels::row_sums(rows.exec(), rows.ids(), rows.gradient(), /*squared=*/true,
                    energy.data<float>());
  Claims claims{index("heavy.slots"), index("heavy.previous")};
  kernels::claim_slots(rows.exec(),
                       {owners_.data<int32_t>(), weights_.data<float>(), owners_.size(0), seed_},
                       rows.ids(), energy.data<float>(), count, rows.step(), claims.view());
  return claims;
}

}  // namespace sketchgrad
