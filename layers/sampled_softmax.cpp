#include "sketchgrad/layers/sampled_softmax.h"

#include "sketchgrad/layers/candidate_softmax.h"
#include "sketchgrad/layers/output_checks.h"

namespace sketchgrad {

SampledSoftmax::SampledSoftmax(const std::string& name, const SampledSoftmaxOptions& options,
                               Rng& rng, Parameter* tied, Device device)
    : name_(name),
      options_(options),
      rng_(rng),
      full_(name, options.softmax, rng, tied, device),
      sampler_(name, options.softmax.classes, options.sampler) {
  add_child(full_);
  options_.sampler.counts = {};  // the sampler has what it needs of them
}

Variable SampledSoftmax::loss(Tape& tape, const Variable& x, const Tensor& targets) {
  if (!training()) return full_.loss(tape, x, targets);
  const MemoryScope scope(name_);
  const int64_t tokens = check_features(name_, x.value, options_.softmax.input);
  const Tensor here = targets.to(kCpu, {Category::index, name_ + ".targets"});
  const int64_t count = check_targets(name_, here, tokens, classes());
  const ClassSample sample = sampler_.draw(rng_.next());
  const auto target_offset = [&](int32_t target) {
    return options_.correct_target ? static_cast<float>(sampler_.log_expected(target)) : 0.0f;
  };
  const Candidates candidates =
      with_targets(name_, sample.ids, sample.log_expected, here, classes(), target_offset);
  return candidate_softmax_loss(tape, name_, x, weight(), bias(), candidates, count,
                                options_.softmax.chunk_bytes);
}

Tensor SampledSoftmax::log_prob(const Tensor& x, const Tensor& targets) {
  return full_.log_prob(x, targets);
}

TopK SampledSoftmax::top_k(const Tensor& x, int64_t k) { return full_.top_k(x, k); }

}  // namespace sketchgrad
