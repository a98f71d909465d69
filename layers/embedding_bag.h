#pragma once

#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tape.h"
#include "sketchgrad/layers/sparse_rows.h"

namespace sketchgrad {

struct EmbeddingBagOptions {
  int64_t rows = 0;  // features
  int64_t dim = 0;   // embedding_dim
  bool bias = false;
  float init_range = 0.1f;  // uniform in [-init_range, init_range]; bias 0
};

// Sums of the rows of a table: y = x W + b for sparse x, such as bags of words. The gradient of the
// table is row-sparse and summed on the way: its storage is that of the different features of the
// batch, whatever the number of entries.
class EmbeddingBag : public Module {
 public:
  EmbeddingBag(const std::string& name, const EmbeddingBagOptions&, Rng&, Device = kCpu);

  // x [bags, rows], on the CPU whatever the table's device -> [bags, dim]. Throws InvalidArgument
  // naming what does not fit.
  Variable forward(Tape&, const SparseRows& x);

  Parameter& weight() { return weight_; }  // [rows, dim]
  Parameter* bias() { return bias_; }      // [dim], or null

 private:
  std::string name_;
  EmbeddingBagOptions options_;
  Parameter& weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace sketchgrad
