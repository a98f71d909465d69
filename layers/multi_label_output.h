#pragma once

#include <string>

#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tape.h"
#include "sketchgrad/layers/sparse_rows.h"

namespace sketchgrad {

enum class MultiLabelLoss : uint8_t {
  softmax,  // against the distribution that gives each label of a token the same share
  sigmoid,  // a binary cross-entropy for each class, summed over classes
};

struct MultiLabelOptions {
  int64_t input = 0;
  int64_t classes = 0;
  MultiLabelLoss loss = MultiLabelLoss::softmax;
  bool bias = true;
  float init_range = 0.1f;  // weights uniform in [-init_range, init_range]; bias 0
  // Bound for the chunk of logits held at a time; at least those of one token are.
  int64_t chunk_bytes = int64_t{24} << 20;
};

// The number of tokens that the mean of such a loss is over: those with labels, or all.
int64_t rows_of_mean(MultiLabelLoss loss, const SparseRows& labels);

// A linear layer over classes with a loss against any number of labels a token. Forward and
// backward are one pass over chunks of logits, so tokens x classes never exists in full.
class MultiLabelOutput : public Module {
 public:
  MultiLabelOutput(const std::string& name, const MultiLabelOptions&, Rng&, Device = kCpu);

  // x [tokens, input], labels [tokens, classes] without values, on the CPU. With z = x W^T + b and
  // the labels Y of a token its loss is
  //   log(sum of exp(z)) - mean of z over Y, and 0 where Y is empty (softmax), or
  //   sum of log(1 + exp(z)) - sum of z over Y                      (sigmoid);
  // the result is the mean over tokens (softmax: those that have labels; 0 where none has).
  Variable loss(Tape&, const Variable& x, const SparseRows& labels);

  // softmax(z) or sigmoid(z): float32 [tokens, classes], in full, where x [tokens, input] is.
  Tensor probabilities(const Tensor& x);

  int64_t classes() const { return options_.classes; }
  Parameter& weight() { return weight_; }  // [classes, input]
  Parameter* bias() { return bias_; }      // [classes], or null

 private:
  const float* bias_data() const { return bias_ == nullptr ? nullptr : bias_->value.data<float>(); }

  std::string name_;
  MultiLabelOptions options_;
  Parameter& weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace sketchgrad
