#pragma once

#include <string>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/layers/output_layer.h"
#include "sketchgrad/layers/softmax_chunks.h"

namespace sketchgrad {

// The k best classes of each token among those seen so far. Classes must be seen in order of id,
// from 0 on; equal logits stay in order of id.
class BestClasses {
 public:
  BestClasses(int64_t tokens, int64_t k);

  // logits [tokens.count, classes.count], on any device.
  void see(const Tensor& logits, IndexRange tokens, IndexRange classes);

  // Scores are logits - log_sums[token]. Call once, after at least k classes.
  // log_sums [tokens], on the CPU.
  TopK result(const Tensor& log_sums, const std::string& name, Device);

 private:
  struct Entry {
    float logit;
    int32_t id;
  };
  static bool better(const Entry& a, const Entry& b);

  void insert(int64_t token, int32_t id, float logit);
  void sort_entries();

  int64_t tokens_;
  int64_t k_;
  // [tokens, k]; each row a heap with its worst in front, once full.
  kernels::ScratchArray<Entry> entries_;
};

}  // namespace sketchgrad
