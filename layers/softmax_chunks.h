#pragma once

#include <string>
#include <vector>

#include "sketchgrad/framework/tensor.h"
#include "sketchgrad/kernels/softmax.h"

// The walk over tokens x classes that layers with a softmax share: chunks of logits that are never
// held in full.
namespace sketchgrad {

struct IndexRange {
  int64_t begin = 0;
  int64_t count = 0;
};

// How tokens x classes are cut: no chunk of logits is larger than chunk_bytes (at least one logit).
// Rows are left whole (classes is a single range) where chunk_bytes holds 64 of them, or all
// tokens.
struct ChunkPlan {
  ChunkPlan(int64_t tokens, int64_t classes, int64_t chunk_bytes);
  bool whole_rows() const { return classes.size() == 1; }
  int64_t largest_chunk() const;  // in logits

  std::vector<IndexRange> tokens;
  std::vector<IndexRange> classes;
};

// For walks that ask for no loss: int32 [tokens], kernels::kIgnoredTarget.
Tensor no_targets(int64_t tokens, Device);

// Logits x weight^T + bias of one call in chunks, and the running log-sum-exp of every token. Holds
// the workspace for one chunk; every chunk overwrites the one before.
class SoftmaxChunks {
 public:
  // x [tokens, input], weight [classes, input], bias [classes] or undefined, targets int32
  // [tokens], each in [0, classes) or kernels::kIgnoredTarget. All must live as long as this.
  SoftmaxChunks(const std::string& name, const Tensor& x, const Tensor& weight, const Tensor& bias,
                const Tensor& targets, int64_t chunk_bytes);

  const ChunkPlan& plan() const { return plan_; }
  kernels::ConstMatrix x_rows(IndexRange tokens) const;
  kernels::ConstMatrix weight_rows(IndexRange classes) const;

  // Takes a chunk into the log-sum-exp and returns its logits [tokens, classes].
  Tensor see(IndexRange tokens, IndexRange classes) const;
  void see_all() const;

  // scale * d loss / d logits of a chunk. Its tokens must have been seen with all classes, except
  // where rows are whole: then this sees the chunk itself, so that its logits are computed once.
  Tensor gradient(IndexRange tokens, IndexRange classes, float scale) const;

  // Once all has been seen: the loss of each token (0 for ignored ones) ...
  Tensor losses(Purpose) const;
  // ... and log(sum of exp(logits)), on the CPU.
  Tensor log_sums() const;

 private:
  Tensor workspace(const char* what, int64_t count) const;
  Tensor logits_without_bias(IndexRange tokens, IndexRange classes) const;
  kernels::OnlineSoftmax online(int64_t token_begin) const;
  const float* bias(IndexRange classes) const;
  const int32_t* targets(IndexRange tokens) const;

  std::string name_;
  kernels::Exec exec_;
  Tensor x_;
  Tensor weight_;
  Tensor bias_;
  Tensor targets_;
  ChunkPlan plan_;
  Tensor chunk_;
  Tensor max_;
  Tensor sum_;
  Tensor target_logit_;
};

}  // namespace sketchgrad
