#pragma once

#include <functional>
#include <optional>
#include <string>

#include "sketchgrad/framework/tensor.h"

// Over which classes the loss of a batch is taken (candidate_softmax.h).
namespace sketchgrad {

// All on the CPU.
struct Candidates {
  Tensor ids;  // int32 [C], increasing: all classes that any token has among its own
  // float32 [C]: subtracted from a candidate's logit; infinity for a class that is there as a
  // target only.
  Tensor offsets;
  Tensor places;          // int32 [tokens]: where ids holds the target; kIgnoredTarget for none
  Tensor target_offsets;  // float32 [tokens]: subtracted from the target's logit
  // Where a token's negatives are those with a code of its own (kernels/lsh.h).
  struct Collisions {
    int tables = 0;
    int bits = 0;
    Tensor token_codes;  // int32 [tokens, tables]
    Tensor row_codes;    // int32 [tables, C]
    float log_share = 0;
  };
  std::optional<Collisions> collisions = std::nullopt;
};

// The candidates of a batch whose negatives are `ids` (int32, increasing, on the CPU), with
// `offsets`. targets int32 [tokens], on the CPU; target_offset is asked once for each class among
// them.
Candidates with_targets(const std::string& name, const Tensor& ids, const Tensor& offsets,
                        const Tensor& targets, int64_t classes,
                        const std::function<float(int32_t)>& target_offset);

}  // namespace sketchgrad
