#pragma once

#include <cstdint>
#include <vector>

#include "sketchgrad/framework/device.h"

// Where an adaptive softmax cuts its classes (Grave et al. 2017, section 4.3).
namespace sketchgrad {

// Seconds that a matrix product of m x n x k takes: call + multiply_add m n k.
struct ProductCost {
  double call = 0;
  double multiply_add = 0;
  double seconds(double m, double n, double k) const { return call + multiply_add * m * n * k; }
};

// Measures products of a softmax of `input` columns over `tokens` tokens, a small and a large one.
ProductCost measure_product_cost(int64_t tokens, int64_t input, Device);

struct CutoffOptions {
  int64_t input = 0;
  int64_t tokens = 0;     // of a step
  double division = 4.0;  // as in AdaptiveSoftmaxOptions
  int max_clusters = 4;
  // What part of all occurrences the head has to hold at least: time alone would leave frequent
  // classes to clusters of few columns.
  double head_share = 0.8;
};

// The cutoffs with the least expected time of a step's products, forward and backward, for classes
// in order of falling frequency, `counts[v]` the times that class v occurs. A function of its
// arguments alone. Cuts are looked for among about 400 places, evenly spread over log(class).
// Throws InvalidArgument for fewer than 2 classes, or counts that increase or are all 0.
std::vector<int64_t> choose_cutoffs(const std::vector<int64_t>& counts, const ProductCost&,
                                    const CutoffOptions&);
// The expected seconds of a step's products with given cutoffs.
double expected_seconds(const std::vector<int64_t>& counts, const std::vector<int64_t>& cutoffs,
                        const ProductCost&, const CutoffOptions&);

}  // namespace sketchgrad
