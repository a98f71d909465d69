#include "sketchgrad/layers/output_checks.h"

#include <utility>

#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/softmax.h"

namespace sketchgrad {

int64_t check_features(const std::string& name, const Tensor& x, int64_t input) {
  check(x.dim() >= 1 && x.size(-1) == input, "[{}] x has shape {}, its last axis must be {}", name,
        to_string(x.shape()), input);
  return x.numel() / input;
}

int64_t check_targets(const std::string& name, const Tensor& targets, int64_t tokens,
                      int64_t classes) {
  check(targets.dtype() == DType::int32 && targets.numel() == tokens,
        "[{}] targets are {} {}, they must be int32, one for each of {} tokens", name,
        to_string(targets.dtype()), to_string(targets.shape()), tokens);
  const kernels::Exec exec = targets.exec();
  const int32_t* const ids = targets.data<int32_t>();
  static_assert(kernels::kIgnoredTarget == -1, "next to the classes: one range holds both");
  const int64_t position =
      kernels::find_out_of_range(exec, ids, tokens, classes, kernels::kIgnoredTarget);
  if (position >= 0) {
    const int32_t target = targets.reshape({-1}).rows(position, 1).to_vector<int32_t>()[0];
    throw InvalidArgument(
        fmt::format("[{}] target {} at position {} is outside {} classes ({} for none)", name,
                    target, position, classes, kernels::kIgnoredTarget));
  }
  return tokens - kernels::count_id(exec, ids, tokens, kernels::kIgnoredTarget);
}

HostTargets check_targets_on_cpu(const std::string& name, const Tensor& x, int64_t input,
                                 const Tensor& targets, int64_t classes) {
  const int64_t tokens = check_features(name, x, input);
  Tensor ids = targets.to(kCpu, {Category::index, name + ".targets"});
  const int64_t count = check_targets(name, ids, tokens, classes);
  return {std::move(ids), count};
}

double share_of_mean(int64_t count) { return count > 0 ? 1.0 / static_cast<double>(count) : 0.0; }

}  // namespace sketchgrad
