#pragma once

#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tape.h"

namespace sketchgrad {

struct EmbeddingOptions {
  int64_t rows = 0;         // vocabulary size
  int64_t dim = 0;          // embedding_dim
  int32_t padding_id = -1;  // looked up as zeros, without a gradient; -1: none
  float init_range = 0.1f;  // uniform in [-init_range, init_range]
};

// Table of row vectors, looked up by id. The gradient of the table is row-sparse: storage is
// proportional to the tokens looked up.
class Embedding : public Module {
 public:
  Embedding(const std::string& name, const EmbeddingOptions&, Rng&, Device = kCpu);

  // ids int32 [..] -> [.., dim]. They may lie on the CPU whatever the table's device, where they
  // are checked without waiting for it, and must stay as they are until backward. Throws
  // InvalidArgument naming the place and value of an id outside the table.
  Variable forward(Tape&, const Tensor& ids);

  Parameter& weight() { return weight_; }  // [rows, dim]
  const EmbeddingOptions& options() const { return options_; }

 private:
  std::string name_;
  EmbeddingOptions options_;
  Parameter& weight_;
};

}  // namespace sketchgrad
