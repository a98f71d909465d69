#pragma once

#include "sketchgrad/layers/class_sampler.h"
#include "sketchgrad/layers/full_softmax.h"

namespace sketchgrad {

struct SampledSoftmaxOptions {
  FullSoftmaxOptions softmax = {};
  ClassSamplerOptions sampler = {};
  // Whether log Q is subtracted from the target's logit as well. With it (Jean et al. 2015), the
  // loss is that of telling the target from the sample, and is small for a rare target however
  // unlikely the model holds it. Without it the sum over the sample is an unbiased estimate of the
  // full softmax's (Bengio and Senecal 2008).
  bool correct_target = true;
};

// Softmax whose loss in training is taken over a sample of the classes, one for all tokens of a
// batch, and the targets:
//   -log(e^{z_y} / (e^{z_y} + sum over sampled v != y of e^{z_v - log Q(v)})),
// with Q(v) the expected number of times that the sample holds v. A target that is sampled counts
// once, as the target. Gradients of weight and bias are row-sparse: rows of the sample and the
// targets. In evaluation loss, log_prob and top_k are those of the full softmax.
class SampledSoftmax : public OutputLayer {
 public:
  // `tied` as for FullSoftmax. `rng` must outlive the layer.
  SampledSoftmax(const std::string& name, const SampledSoftmaxOptions&, Rng& rng,
                 Parameter* tied = nullptr, Device = kCpu);

  Variable loss(Tape&, const Variable& x, const Tensor& targets) override;
  Tensor log_prob(const Tensor& x, const Tensor& targets) override;
  TopK top_k(const Tensor& x, int64_t k) override;
  int64_t classes() const override { return full_.classes(); }
  std::vector<Parameter*> class_tables() override { return full_.class_tables(); }

  Parameter& weight() { return full_.weight(); }
  Parameter* bias() { return full_.bias(); }
  const ClassSampler& sampler() const { return sampler_; }

 private:
  std::string name_;
  FullSoftmaxOptions softmax_;
  bool correct_target_;
  Rng& rng_;
  FullSoftmax full_;
  ClassSampler sampler_;
};

}  // namespace sketchgrad
