#include "sketchgrad/layers/candidates.h"

#include <algorithm>
#include <limits>

#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/softmax.h"

namespace sketchgrad {

namespace {

// The tokens of each class that is a target.
struct TargetGroups {
  TargetGroups(const std::string& name, const Tensor& targets, int64_t classes) {
    const int64_t tokens = targets.numel();
    const auto array = [&](const char* what, int64_t size) {
      return Tensor::empty({size}, {Category::index, name + what}, DType::int32);
    };
    keys = array(".target_keys", tokens);
    begin = array(".target_begin", tokens + 1);
    order = array(".target_order", tokens);
    // What has no target becomes a class of its own, behind the others.
    const Tensor shifted = array(".targets", tokens);
    std::replace_copy(targets.data<int32_t>(), targets.data<int32_t>() + tokens,
                      shifted.data<int32_t>(), kernels::kIgnoredTarget,
                      static_cast<int32_t>(classes));
    groups =
        kernels::group_by_key(shifted.exec(), shifted.data<int32_t>(), tokens, classes + 1,
                              keys.data<int32_t>(), begin.data<int32_t>(), order.data<int32_t>());
    count = groups.count;
    if (count > 0 && groups.keys[count - 1] == classes) --count;
  }
  Tensor keys, begin, order;
  kernels::Groups groups;
  int64_t count = 0;  // of real classes
};

}  // namespace

Candidates with_targets(const std::string& name, const Tensor& ids, const Tensor& offsets,
                        const Tensor& targets, int64_t classes,
                        const std::function<float(int32_t)>& target_offset) {
  const TargetGroups groups(name, targets, classes);
  const int64_t tokens = targets.numel(), negatives = ids.numel();
  const int64_t most = negatives + groups.count;
  Candidates result;
  const Tensor merged =
      Tensor::empty({most}, {Category::index, name + ".candidates"}, DType::int32);
  const Tensor merged_offsets = Tensor::empty({most}, {Category::workspace, name + ".offsets"});
  result.places = Tensor::empty({tokens}, {Category::index, name + ".places"}, DType::int32);
  result.target_offsets = Tensor::zeros({tokens}, {Category::workspace, name + ".target_offsets"});
  std::fill_n(result.places.data<int32_t>(), tokens, kernels::kIgnoredTarget);

  int64_t count = 0, negative = 0;
  const auto add = [&](int32_t id, float offset) {
    merged.data<int32_t>()[count] = id;
    merged_offsets.data<float>()[count++] = offset;
  };
  const auto add_negatives_below = [&](int64_t limit) {
    for (; negative < negatives && ids.data<int32_t>()[negative] < limit; ++negative) {
      add(ids.data<int32_t>()[negative], offsets.data<float>()[negative]);
    }
  };
  for (int64_t g = 0; g < groups.count; ++g) {
    const int32_t target = groups.groups.keys[g];
    add_negatives_below(target);
    const int64_t place = count;
    add_negatives_below(int64_t{target} + 1);  // perhaps the target itself
    if (count == place) add(target, std::numeric_limits<float>::infinity());
    const float offset = target_offset(target);
    for (int32_t i = groups.groups.begin[g]; i < groups.groups.begin[g + 1]; ++i) {
      const int32_t token = groups.groups.order[i];
      result.places.data<int32_t>()[token] = static_cast<int32_t>(place);
      result.target_offsets.data<float>()[token] = offset;
    }
  }
  add_negatives_below(classes);
  result.ids = merged.rows(0, count);
  result.offsets = merged_offsets.rows(0, count);
  return result;
}

}  // namespace sketchgrad
