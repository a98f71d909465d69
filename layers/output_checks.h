#pragma once

#include <string>

#include "sketchgrad/framework/tensor.h"

// What output layers check of their arguments; all throw InvalidArgument naming the layer.
namespace sketchgrad {

// The number of tokens of x [.., input].
int64_t check_features(const std::string& name, const Tensor& x, int64_t input);
// Targets int32, one a token, each in [0, classes) or kernels::kIgnoredTarget. The number of tokens
// with a target. Waits for the device where the targets lie on one.
int64_t check_targets(const std::string& name, const Tensor& targets, int64_t tokens,
                      int64_t classes);
// The same for a layer that looks at targets on the CPU, features included.
struct HostTargets {
  Tensor ids;         // int32, on the CPU
  int64_t count = 0;  // of those that are one
};
HostTargets check_targets_on_cpu(const std::string& name, const Tensor& x, int64_t input,
                                 const Tensor& targets, int64_t classes);
// A token's share of the mean over `count` tokens with a target: 0 where there is none.
double share_of_mean(int64_t count);

}  // namespace sketchgrad
