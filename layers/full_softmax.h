#pragma once

#include "sketchgrad/layers/output_layer.h"

namespace sketchgrad {

struct FullSoftmaxOptions {
  int64_t input = 0;
  int64_t classes = 0;
  bool bias = true;
  float init_range = 0.1f;  // weights uniform in [-init_range, init_range]; bias 0
  // Bound for the chunk of logits held at a time. Where a chunk of at least 64 tokens x all classes
  // fits, each logit is computed once; otherwise the vocabulary is walked in chunks too and logits
  // are computed twice.
  int64_t chunk_bytes = int64_t{24} << 20;
};

// Softmax over all classes with cross-entropy. Forward and backward are one pass: while a chunk of
// logits is at hand its gradient is taken, so tokens x classes never exists in full.
class FullSoftmax : public OutputLayer {
 public:
  // `tied`: a table [classes, input] of another layer to use as the weight; null for an own one.
  FullSoftmax(const std::string& name, const FullSoftmaxOptions&, Rng&, Parameter* tied = nullptr,
              Device = kCpu);

  Variable loss(Tape&, const Variable& x, const Tensor& targets) override;
  Tensor log_prob(const Tensor& x, const Tensor& targets) override;
  TopK top_k(const Tensor& x, int64_t k) override;
  int64_t classes() const override { return options_.classes; }
  std::vector<Parameter*> class_tables() override { return {weight_}; }

  Parameter& weight() const { return *weight_; }
  Parameter* bias() { return bias_; }

 private:
  Tensor bias_value() const;

  std::string name_;
  FullSoftmaxOptions options_;
  Parameter* weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace sketchgrad
