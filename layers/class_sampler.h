#pragma once

#include <string>
#include <vector>

#include "sketchgrad/framework/rng.h"
#include "sketchgrad/framework/tensor.h"

namespace sketchgrad {

// How likely a draw is to give class k of N:
//   log_uniform  log((k + 2) / (k + 1)) / log(N + 1), for classes in order of falling frequency
//   unigram      counts[k]^power / sum of them
//   uniform      1 / N
enum class ClassDistribution : uint8_t { log_uniform, unigram, uniform };
// "log_uniform", "unigram" or "uniform"; throws InvalidArgument for any other word.
ClassDistribution parse_class_distribution(const std::string& word);

struct ClassSamplerOptions {
  // Of one sample: with `unique` the number of different classes that is expected, otherwise the
  // number of draws.
  int64_t samples = 8192;
  ClassDistribution distribution = ClassDistribution::log_uniform;
  // Each class at most once a sample.
  bool unique = true;
  // For unigram: how often each class occurs, at least 1.
  std::vector<int64_t> counts = {};
  double power = 0.75;
};

// Classes of one sample, increasing, and the logarithm of what each counts for: the number of times
// that it is expected in a sample, divided by the number of times that it is in this one.
struct ClassSample {
  Tensor ids;           // int32 [S], on the CPU
  Tensor log_expected;  // float32 [S], on the CPU
};

// Draws the negatives of sampled softmaxes. A sample is a function of its key alone. It is drawn on
// the CPU, whatever the device that computes with it: nothing of it depends on what a device holds,
// so no step waits for one.
//
// A unique sample has a fixed number of tries, T, and the classes that they hit. So class k is in
// it with probability 1 - (1 - q_k)^T exactly, which it is not where one draws until a given number
// of different classes is together. T is the smallest number with `samples` expected classes.
class ClassSampler {
 public:
  // Throws InvalidArgument for options that do not fit the classes.
  ClassSampler(const std::string& name, int64_t classes, const ClassSamplerOptions&);

  ClassSample draw(kernels::PhiloxKey key) const;
  // Of one draw.
  double probability(int64_t id) const;
  // log of the number of times that a sample is expected to hold a class (unique: of the
  // probability that it does).
  double log_expected(int64_t id) const;
  int64_t tries() const { return tries_; }

 private:
  int32_t draw_one(kernels::PhiloxKey key, int64_t index) const;
  void make_alias_table(const ClassSamplerOptions&);
  int64_t tries_for(int64_t samples) const;

  std::string name_;
  int64_t classes_;
  ClassDistribution distribution_;
  bool unique_;
  int64_t tries_ = 0;
  // Unigram (Walker 1977, Vose 1991): a draw takes a cell, then the cell's class or its alias.
  Tensor probabilities_;  // float32 [classes]
  Tensor thresholds_;     // float32 [classes]: the share of the cell that is its own class's
  Tensor aliases_;        // int32 [classes]
};

}  // namespace sketchgrad
