#pragma once

#include <optional>
#include <tuple>

#include "sketchgrad/layers/candidate_softmax.h"
#include "sketchgrad/layers/class_sampler.h"
#include "sketchgrad/layers/full_softmax.h"
#include "sketchgrad/layers/lsh_index.h"

namespace sketchgrad {

struct LshSoftmaxOptions {
  FullSoftmaxOptions softmax = {};
  LshOptions index = {};
  int64_t active = 8192;  // negatives of a step, at most (with `importance`: on average)
  // Beside them a log-uniform sample of so many different classes, on average, whose logits get log
  // Q subtracted where they have not been found: it stands for all classes that are not found, so
  // that the sum over the candidates is an unbiased estimate of that over all (Mussmann and Ermon
  // 2016). 0: none, and what is not found is never made less likely. Not with `importance`, which
  // has its own estimate.
  int64_t tail_samples = 4096;
  int64_t rebuild_every = 250;  // steps from one full index to the next
  // Between two of them: whether the rows that have had a gradient are hashed anew each step. (With
  // a tied table, those that the embedding alone has used are not.)
  bool incremental = false;
  // Without: of the rows that any token's buckets hold, those that most buckets hold are the
  // negatives of all tokens, and their logits are taken as they are. With: a token's negatives are
  // those that its own buckets hold, each taken with the same probability where they are too many,
  // and log Q is subtracted, Q the probability that a row at its angle is found and taken (SimHash
  // only). Then the sum over the negatives is an unbiased estimate of that over all classes, as far
  // as the index is fresh, no bucket is full, and no such probability is below 1e-6.
  bool importance = false;
  // Steps between measurements of how many of the true top 10 classes are among the candidates, on
  // some tokens; 0: never.
  int64_t recall_every = 250;
};

// Softmax whose loss in training is taken over the classes whose weights are likely near to the
// features of any token of the batch, found by locality-sensitive hashing, and the targets (Spring
// and Shrivastava 2017; Chen et al. 2020). Gradients are row-sparse. In evaluation loss, log_prob
// and top_k are those of the full softmax. On CUDA a step waits for the device: which rows are near
// depends on what it has computed.
class LshSoftmax : public OutputLayer {
 public:
  // `tied` as for FullSoftmax. `rng` must outlive the layer.
  LshSoftmax(const std::string& name, const LshSoftmaxOptions&, Rng& rng, Parameter* tied = nullptr,
             Device = kCpu);

  Variable loss(Tape&, const Variable& x, const Tensor& targets) override;
  Tensor log_prob(const Tensor& x, const Tensor& targets) override {
    return full_.log_prob(x, targets);
  }
  TopK top_k(const Tensor& x, int64_t k) override { return full_.top_k(x, k); }
  int64_t classes() const override { return full_.classes(); }
  std::vector<Parameter*> class_tables() override { return full_.class_tables(); }
  // lsh_active: candidates of the last step; lsh_found: rows that its buckets held;
  // lsh_rebuild_seconds: of the last full index; lsh_recall_at_10, where it has been measured.
  std::vector<std::pair<std::string, double>> statistics() const override;
  void keep_state() override { kept_ = {steps_, last_ids_}; }
  // The index needs none: a rebuild or update that is done again comes out the same.
  void restore_state() override { std::tie(steps_, last_ids_) = kept_; }
  void save_state(StateDict& state) const override;
  void load_state(const StateDict& state) override;

  Parameter& weight() { return full_.weight(); }
  Parameter* bias() { return full_.bias(); }

 private:
  void refresh_index();
  ClassSample negatives_of(const LshIndex::Hits& hits);
  Candidates find_candidates(const Tensor& x, const Tensor& targets);
  void measure_recall(const Tensor& x, const Tensor& ids);

  std::string name_;
  LshSoftmaxOptions options_;
  Rng& rng_;
  FullSoftmax full_;
  LshIndex index_;
  std::optional<ClassSampler> tail_;
  int64_t steps_ = 0;
  std::tuple<int64_t, Tensor> kept_;
  Tensor last_ids_;  // candidates of the last step, whose rows have changed since
  double active_ = 0;
  double found_ = 0;
  double rebuild_seconds_ = 0;
  double recall_ = -1;
};

}  // namespace sketchgrad
