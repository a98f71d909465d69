#include "sketchgrad/apps/lm/softmax.h"

#include <utility>

#include "sketchgrad/layers/sampled_softmax.h"

namespace sketchgrad::apps::lm {

namespace {

constexpr const char* kName = "softmax";

std::unique_ptr<OutputLayer> make_sampled(const SoftmaxOptions& options, SoftmaxParts parts,
                                          Rng& rng, Device device) {
  return std::make_unique<SampledSoftmax>(
      kName,
      SampledSoftmaxOptions{.softmax = parts.size,
                            .sampler = {.samples = options.samples,
                                        .distribution = parse_class_distribution(options.sampler),
                                        .unique = !options.replacement,
                                        .counts = std::move(parts.counts),
                                        .power = options.unigram_power},
                            .correct_target = options.correct_target},
      rng, parts.tied, device);
}

}  // namespace

void add_options(CLI::App& command, SoftmaxOptions& options) {
  command
      .add_option("--softmax", options.softmax,
                  "how the output is trained: full, or sampled (over a sample of the words, one a "
                  "step, and the targets). It is always scored in full")
      ->check(CLI::IsMember({"full", "sampled"}))
      ->capture_default_str();
  command
      .add_option("--samples", options.samples,
                  "words of a sample: different ones, on average, or with --replacement draws")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  command
      .add_option("--sampler", options.sampler,
                  "what a word's chance is: log_uniform (by its rank in the vocabulary), unigram "
                  "(by how often it stands in the training text) or uniform")
      ->check(CLI::IsMember({"log_uniform", "unigram", "uniform"}))
      ->capture_default_str();
  command
      .add_option("--unigram-power", options.unigram_power,
                  "the chance goes with the count to this power")
      ->capture_default_str();
  command.add_flag("--replacement", options.replacement, "a sample may hold a word several times");
  command.add_flag("--correct-target", options.correct_target,
                   "subtract log Q from the target's logit as well as from the sample's");
}

std::unique_ptr<OutputLayer> make_softmax(const SoftmaxOptions& options, SoftmaxParts parts,
                                          Rng& rng, Device device) {
  if (options.softmax == "sampled") return make_sampled(options, std::move(parts), rng, device);
  check(options.softmax == "full", "--softmax: {} is neither full nor sampled", options.softmax);
  return std::make_unique<FullSoftmax>(kName, parts.size, rng, parts.tied, device);
}

SoftmaxOptions for_evaluation(SoftmaxOptions options) {
  if (options.softmax == "sampled") options.softmax = "full";
  return options;
}

}  // namespace sketchgrad::apps::lm
