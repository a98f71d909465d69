#include "sketchgrad/layers/sampled_softmax.h"

#include "sketchgrad/layers/candidate_softmax.h"
#include "sketchgrad/layers/output_checks.h"

namespace sketchgrad {

SampledSoftmax::SampledSoftmax(const std::string& name, const SampledSoftmaxOptions& options,
                               Rng& rng, Parameter* tied, Device device)
    : name_(name),
      softmax_(options.softmax),
      correct_target_(options.correct_target),
      rng_(rng),
      full_(name, options.softmax, rng, tied, device),
      sampler_(name, options.softmax.classes, options.sampler) {
  add_child(full_);
}

Variable SampledSoftmax::loss(Tape& tape, const Variable& x, const Tensor& targets) {
  if (!training()) return full_.loss(tape, x, targets);
  const MemoryScope scope(name_);
  const HostTargets here = check_targets_on_cpu(name_, x.value, softmax_.input, targets, classes());
  const ClassSample sample = sampler_.draw(rng_.next());
  const auto target_offset = [&](int32_t target) {
    return correct_target_ ? static_cast<float>(sampler_.log_expected(target)) : 0.0f;
  };
  const Candidates candidates =
      with_targets(name_, sample.ids, sample.log_expected, here.ids, classes(), target_offset);
  return candidate_softmax_loss(tape, name_, x, weight(), bias(), candidates, here.count,
                                softmax_.chunk_bytes);
}

Tensor SampledSoftmax::log_prob(const Tensor& x, const Tensor& targets) {
  return full_.log_prob(x, targets);
}

TopK SampledSoftmax::top_k(const Tensor& x, int64_t k) { return full_.top_k(x, k); }

}  // namespace sketchgrad
