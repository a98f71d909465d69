#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sketchgrad/layers/full_softmax.h"

namespace sketchgrad::apps {

// Which softmax a model has, and how it is trained.
struct SoftmaxOptions {
  std::string softmax = "full";  // full, sampled, lsh, adaptive
  int64_t samples = 8192;
  std::string sampler = "log_uniform";  // a word of parse_class_distribution
  double unigram_power = 0.75;
  bool replacement = false;
  bool correct_target = true;
  std::vector<int64_t> cutoffs = {};  // empty: choose_cutoffs of layers/adaptive_cutoffs.h
  double division = 4.0;
  std::string lsh_hash = "simhash";  // a word of parse_lsh_hash
  int64_t lsh_tail = 4096;
  int lsh_bits = 15;
  int lsh_tables = 16;
  int64_t lsh_rebuild = 250;
  bool lsh_incremental = false;
  bool lsh_importance = false;
};

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(SoftmaxOptions, softmax, samples, sampler,
                                                unigram_power, replacement, correct_target, cutoffs,
                                                division, lsh_hash, lsh_tail, lsh_bits, lsh_tables,
                                                lsh_rebuild, lsh_incremental, lsh_importance)

// --softmax, and the settings of each.
void add_options(CLI::App& command, SoftmaxOptions& options);
// Those of sampled and of LSH softmax.
void add_sampling_options(CLI::App& command, SoftmaxOptions& options);
void add_lsh_options(CLI::App& command, SoftmaxOptions& options);
// Of a command that was parsed. Throws InvalidArgument where it sets what a softmax of this kind
// does not have; `owner` names it in the message.
void check_sampling_flags(const CLI::App& command, const std::string& softmax,
                          const std::string& owner);
// The same of all flags that add_options declares.
void check_flags(const CLI::App& command, const SoftmaxOptions& options);

// What an output layer is made of besides its options.
struct SoftmaxParts {
  FullSoftmaxOptions size;
  Parameter* tied = nullptr;
  std::vector<int64_t> counts = {};  // of the classes; needed by the unigram sampler
};

// `rng` must outlive the layer. Throws InvalidArgument for options that do not fit.
std::unique_ptr<OutputLayer> make_softmax(const SoftmaxOptions& options, SoftmaxParts parts,
                                          Rng& rng, Device device);

// Whether make_softmax or complete needs to know how often each class occurs.
bool needs_counts(const SoftmaxOptions& options);
// Chooses cutoffs where an adaptive softmax of `input` columns has none, by the times that products
// take here. counts: as in SoftmaxParts. tokens: of a step.
void complete(SoftmaxOptions& options, const std::vector<int64_t>& counts, int64_t tokens,
              int64_t input, Device device);

// The options of a layer that has the same parameters and is never trained.
SoftmaxOptions for_evaluation(SoftmaxOptions options);

}  // namespace sketchgrad::apps
