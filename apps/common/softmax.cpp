#include "sketchgrad/apps/common/softmax.h"

#include <algorithm>
#include <utility>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/layers/adaptive_cutoffs.h"
#include "sketchgrad/layers/adaptive_softmax.h"
#include "sketchgrad/layers/lsh_softmax.h"
#include "sketchgrad/layers/sampled_softmax.h"

namespace sketchgrad::apps {

namespace {

constexpr const char* kName = "softmax";

// The layers know no flags.
void check_samples(const char* flag, int64_t samples, int64_t classes) {
  check(samples < classes,
        "{}: {} different classes cannot be a sample of {}: take fewer, or a full softmax", flag,
        samples, classes);
}

std::unique_ptr<OutputLayer> make_sampled(const SoftmaxOptions& options, SoftmaxParts parts,
                                          Rng& rng, Device device) {
  if (!options.replacement) check_samples("--samples", options.samples, parts.size.classes);
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

std::unique_ptr<OutputLayer> make_lsh(const SoftmaxOptions& options, const SoftmaxParts& parts,
                                      Rng& rng, Device device) {
  if (!options.lsh_importance) check_samples("--lsh-tail", options.lsh_tail, parts.size.classes);
  return std::make_unique<LshSoftmax>(
      kName,
      LshSoftmaxOptions{.softmax = parts.size,
                        .index = {.hash = parse_lsh_hash(options.lsh_hash),
                                  .bits = options.lsh_bits,
                                  .tables = options.lsh_tables},
                        .active = options.samples,
                        .tail_samples = options.lsh_tail,
                        .rebuild_every = options.lsh_rebuild,
                        .incremental = options.lsh_incremental,
                        .importance = options.lsh_importance,
                        .recall_every = options.lsh_rebuild},
      rng, parts.tied, device);
}

std::unique_ptr<OutputLayer> make_adaptive(const SoftmaxOptions& options, const SoftmaxParts& parts,
                                           Rng& rng, Device device) {
  return std::make_unique<AdaptiveSoftmax>(
      kName,
      AdaptiveSoftmaxOptions{.input = parts.size.input,
                             .classes = parts.size.classes,
                             .cutoffs = options.cutoffs,
                             .division = options.division,
                             .init_range = parts.size.init_range},
      rng, parts.tied, device);
}

}  // namespace

void add_sampling_options(CLI::App& command, SoftmaxOptions& options) {
  command
      .add_option(
          "--samples", options.samples,
          "classes of a sample: different ones, on average, or with --replacement draws; with "
          "lsh, classes at most besides the targets")
      ->check(whole_in(1, int64_t{1} << 30))
      ->capture_default_str();
  command
      .add_option("--sampler", options.sampler,
                  "what a class's chance is: log_uniform (by its rank among them), unigram "
                  "(by how often it stands in the training text) or uniform")
      ->check(CLI::IsMember({"log_uniform", "unigram", "uniform"}))
      ->capture_default_str();
  command
      .add_option("--unigram-power", options.unigram_power,
                  "the chance goes with the count to this power")
      ->check(any_real())
      ->capture_default_str();
  command.add_flag("--replacement", options.replacement, "a sample may hold a class several times");
  command.add_flag("--correct-target,!--no-correct-target", options.correct_target,
                   "subtract log Q from the target's logit as well as from the sample's " +
                       default_of(options.correct_target));
}

void add_lsh_options(CLI::App& command, SoftmaxOptions& options) {
  command.add_option("--lsh-hash", options.lsh_hash, "simhash, or dwta (winner-take-all)")
      ->check(CLI::IsMember({"simhash", "dwta"}))
      ->capture_default_str();
  command
      .add_option(
          "--lsh-tail", options.lsh_tail,
          "classes of a log-uniform sample beside those found, which stands for all that are "
          "not; 0: none")
      ->check(whole_from(0))
      ->capture_default_str();
  command.add_option("--lsh-bits", options.lsh_bits, "of a code; a table has 2^BITS buckets")
      ->check(whole_in(1, 24))
      ->capture_default_str();
  command.add_option("--lsh-tables", options.lsh_tables, "hash tables")
      ->check(whole_in(1, 1024))
      ->capture_default_str();
  command
      .add_option("--lsh-rebuild", options.lsh_rebuild,
                  "steps from one index of all classes to the next")
      ->check(whole_from(1))
      ->capture_default_str();
  command.add_flag("--lsh-incremental", options.lsh_incremental,
                   "between them, classes that were trained are hashed anew each step");
  command.add_flag("--lsh-importance", options.lsh_importance,
                   "subtract log Q, Q the probability that a class at its angle is found");
}

void check_sampling_flags(const CLI::App& command, const std::string& softmax,
                          const std::string& owner) {
  if (softmax != "sampled") {
    refuse_given(command, {"--sampler", "--unigram-power", "--replacement", "--correct-target"},
                 owner);
  }
  if (softmax != "sampled" && softmax != "lsh") refuse_given(command, {"--samples"}, owner);
  if (softmax != "lsh") {
    refuse_given(command,
                 {"--lsh-hash", "--lsh-tail", "--lsh-bits", "--lsh-tables", "--lsh-rebuild",
                  "--lsh-incremental", "--lsh-importance"},
                 owner);
  }
}

void check_flags(const CLI::App& command, const SoftmaxOptions& options) {
  const std::string owner = fmt::format("--softmax {}", options.softmax);
  check_sampling_flags(command, options.softmax, owner);
  if (options.softmax != "adaptive") refuse_given(command, {"--cutoffs", "--division"}, owner);
}

void add_options(CLI::App& command, SoftmaxOptions& options) {
  command
      .add_option(
          "--softmax", options.softmax,
          "full; sampled: trained over a sample of the classes, one a step, and the targets; "
          "lsh: over classes whose weights are likely near to the features, and the targets; "
          "both scored in full; or adaptive: rare classes in clusters with fewer columns")
      ->check(CLI::IsMember({"full", "sampled", "lsh", "adaptive"}))
      ->capture_default_str();
  add_sampling_options(command, options);
  command
      .add_option("--cutoffs", options.cutoffs,
                  "of the adaptive softmax: the ids at which its clusters begin, with commas "
                  "[by the classes' frequencies and the times of products on this machine]")
      ->delimiter(',')
      ->check(whole_from(1));
  command
      .add_option("--division", options.division,
                  "of the adaptive softmax: each cluster has so many times fewer columns than the "
                  "one before; 1 with --tie")
      ->check(positive())
      ->capture_default_str();
  add_lsh_options(command, options);
}

std::unique_ptr<OutputLayer> make_softmax(const SoftmaxOptions& options, SoftmaxParts parts,
                                          Rng& rng, Device device) {
  if (options.softmax == "sampled") return make_sampled(options, std::move(parts), rng, device);
  if (options.softmax == "lsh") return make_lsh(options, parts, rng, device);
  if (options.softmax == "adaptive") return make_adaptive(options, parts, rng, device);
  check(options.softmax == "full", "--softmax: {} is none of full, sampled, lsh, adaptive",
        options.softmax);
  return std::make_unique<FullSoftmax>(kName, parts.size, rng, parts.tied, device);
}

bool needs_counts(const SoftmaxOptions& options) {
  return (options.softmax == "sampled" && options.sampler == "unigram") ||
         (options.softmax == "adaptive" && options.cutoffs.empty());
}

void complete(SoftmaxOptions& options, const std::vector<int64_t>& counts, int64_t tokens,
              int64_t input, Device device) {
  if (options.softmax != "adaptive" || !options.cutoffs.empty()) return;
  // Where words were dropped while counting, the vocabulary is nearly, not quite, in this order.
  std::vector<int64_t> falling = counts;
  for (size_t v = 1; v < falling.size(); ++v) falling[v] = std::min(falling[v], falling[v - 1]);
  options.cutoffs =
      choose_cutoffs(falling, measure_product_cost(tokens, input, device),
                     {.input = input, .tokens = tokens, .division = options.division});
}

SoftmaxOptions for_evaluation(SoftmaxOptions options) {
  if (options.softmax == "sampled" || options.softmax == "lsh") options.softmax = "full";
  return options;
}

}  // namespace sketchgrad::apps
