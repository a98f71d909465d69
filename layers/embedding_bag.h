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

// Sparse rows as bags take them: checked, on the device of the tables, and with the transpose that
// gradients are taken by. Bags of the same rows share one.
struct BagInput {
  int64_t columns = 0;
  SparseRows rows;
  TransposedRows by_column;  // undefined where no gradient is wanted
};
// x [bags, columns], on the CPU whatever the device. Throws InvalidArgument, beginning with [name],
// for what does not fit.
BagInput make_bag_input(const std::string& name, const SparseRows& x, int64_t columns, Device,
                        bool with_gradient);

// Sums of the rows of a table: y = x W + b for sparse x, such as bags of words. The gradient of the
// table is row-sparse and summed on the way: its storage is that of the different features of the
// batch, whatever the number of entries.
class EmbeddingBag : public Module {
 public:
  EmbeddingBag(const std::string& name, const EmbeddingBagOptions&, Rng&, Device = kCpu);

  // x [bags, rows], on the CPU whatever the table's device -> [bags, dim]. Throws InvalidArgument
  // naming what does not fit.
  Variable forward(Tape&, const SparseRows& x);
  // The same for what other bags take as well; with a transpose where the tape is recording.
  Variable forward(Tape&, const BagInput& x);

  Parameter& weight() { return weight_; }  // [rows, dim]
  Parameter* bias() { return bias_; }      // [dim], or null

 private:
  std::string name_;
  EmbeddingBagOptions options_;
  Parameter& weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace sketchgrad
