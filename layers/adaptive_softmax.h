#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sketchgrad/layers/output_layer.h"
#include "sketchgrad/layers/softmax_loss.h"

namespace sketchgrad {

struct AdaptiveSoftmaxOptions {
  int64_t input = 0;
  int64_t classes = 0;
  // Increasing, in (0, classes): the head holds classes [0, cutoffs[0]), cluster i those from
  // cutoffs[i] up to the next cutoff or the last class. Classes are best in order of falling
  // frequency. See choose_cutoffs in adaptive_cutoffs.h.
  std::vector<int64_t> cutoffs = {};
  // Cluster i is computed in max(1, floor(input / division^(i + 1))) columns; 1 with a tied table.
  double division = 4.0;
  bool head_bias = false;
  float init_range = 0.1f;  // of all weights, uniform in [-init_range, init_range]; bias 0
  int64_t chunk_bytes = int64_t{24} << 20;  // as in FullSoftmaxOptions, for each part
};

// Adaptive softmax (Grave et al. 2017): log p(v) = log p_head(v) for the classes of the head, and
// log p_head(cluster) + log p_cluster(v) for the others, with each cluster on a projection of x. A
// step computes the head for all tokens and a cluster for those whose target is in it; a cluster
// without any has no gradient. Parameters are named and laid out as PyTorch's
// AdaptiveLogSoftmaxWithLoss: head.weight [cutoffs[0] + clusters, input], tail.i.0.weight [columns,
// input], tail.i.1.weight [classes of the cluster, columns].
class AdaptiveSoftmax : public OutputLayer {
 public:
  // `tied`: a table [classes, input] whose rows are the weights of all classes; null for own ones.
  // Then the clusters' own rows of the head are clusters.weight [clusters, input], and the gradient
  // of the table is row-sparse: the head and the clusters that a step computes.
  AdaptiveSoftmax(const std::string& name, const AdaptiveSoftmaxOptions&, Rng&,
                  Parameter* tied = nullptr, Device = kCpu);

  Variable loss(Tape&, const Variable& x, const Tensor& targets) override;
  Tensor log_prob(const Tensor& x, const Tensor& targets) override;
  TopK top_k(const Tensor& x, int64_t k) override;
  int64_t classes() const override { return options_.classes; }
  std::vector<Parameter*> class_tables() override;

 private:
  struct Cluster {
    int64_t begin;
    int64_t count;
    Parameter* projection;
    Parameter* weight;  // null where tied
  };
  // The tokens whose target is in one cluster.
  struct Part {
    Tensor places;   // int32: which they are
    Tensor targets;  // int32: counted from the cluster's first class
  };
  struct Split;
  struct Gradients;

  int64_t head_classes() const { return options_.cutoffs[0]; }
  std::string tail_name(size_t cluster) const;
  // Weights of the head: its classes, then the clusters.
  Tensor head_weight() const;
  Tensor head_bias() const;
  Tensor tail_weight(const Cluster&) const;
  Tensor project(const Cluster&, const Tensor& x) const;
  Tensor rows_of(const Tensor& x, const Tensor& places) const;
  void add_table_gradient(Tape&, Parameter* own, int64_t begin, const Tensor& values, Gradients&);
  void add_head_gradients(Tape&, const Variable& x, const Variable& head, const SoftmaxGradients&,
                          Gradients&);
  void add_cluster(Tape&, size_t i, const Part&, double share, const Variable& x, SoftmaxLoss&,
                   Gradients&);

  std::string name_;
  AdaptiveSoftmaxOptions options_;
  Parameter* tied_;
  Parameter* head_;  // all rows of the head, or where tied those of the clusters
  Parameter* head_bias_ = nullptr;
  std::vector<Cluster> clusters_;
};

}  // namespace sketchgrad
