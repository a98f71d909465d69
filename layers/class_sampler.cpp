#include "sketchgrad/layers/class_sampler.h"

#include <algorithm>
#include <cmath>

#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {

namespace {

Tensor table(const std::string& name, int64_t count, DType type) {
  return Tensor::empty({count}, {Category::data, name}, type);
}

// 53 bits in [0, 1).
double unit_interval(uint32_t high, uint32_t low) {
  return static_cast<double>((uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

void check_options(const std::string& name, int64_t classes, const ClassSamplerOptions& options) {
  check(classes >= 1, "[{}] a sampler of {} classes", name, classes);
  check(options.samples >= 1, "[{}] {} samples, at least 1 is drawn", name, options.samples);
  check(!options.unique || options.samples < classes,
        "[{}] {} different classes cannot be a sample of {}: take fewer, or a full softmax", name,
        options.samples, classes);
  if (options.distribution != ClassDistribution::unigram) return;
  check(static_cast<int64_t>(options.counts.size()) == classes, "[{}] {} counts for {} classes",
        name, options.counts.size(), classes);
  check(std::isfinite(options.power), "[{}] the power of the counts is {}", name, options.power);
  for (size_t k = 0; k < options.counts.size(); ++k) {
    check(options.counts[k] >= 1, "[{}] class {} occurs {} times, it must be once or more", name, k,
          options.counts[k]);
  }
}

}  // namespace

ClassDistribution parse_class_distribution(const std::string& word) {
  if (word == "log_uniform") return ClassDistribution::log_uniform;
  if (word == "unigram") return ClassDistribution::unigram;
  if (word == "uniform") return ClassDistribution::uniform;
  throw InvalidArgument(
      fmt::format("[sampler] \"{}\" is none of log_uniform, unigram, uniform", word));
}

ClassSampler::ClassSampler(const std::string& name, int64_t classes,
                           const ClassSamplerOptions& options)
    : name_(name), classes_(classes), distribution_(options.distribution), unique_(options.unique) {
  check_options(name, classes, options);
  if (distribution_ == ClassDistribution::unigram) make_alias_table(options);
  tries_ = unique_ ? tries_for(options.samples) : options.samples;
}

void ClassSampler::make_alias_table(const ClassSamplerOptions& options) {
  probabilities_ = table(name_ + ".sampler.probabilities", classes_, DType::float32);
  thresholds_ = table(name_ + ".sampler.thresholds", classes_, DType::float32);
  aliases_ = table(name_ + ".sampler.aliases", classes_, DType::int32);
  std::vector<double> share;  // of a class, in cells
  share.reserve(options.counts.size());
  double total = 0;
  for (const int64_t count : options.counts) {
    share.push_back(std::pow(static_cast<double>(count), options.power));
    total += share.back();
  }
  check(std::isfinite(total) && total > 0, "[{}] counts to the power of {} add up to {}", name_,
        options.power, total);
  std::vector<int32_t> small, large;
  for (size_t k = 0; k < share.size(); ++k) {
    probabilities_.data<float>()[k] = static_cast<float>(share[k] / total);
    share[k] *= static_cast<double>(classes_) / total;
    (share[k] < 1.0 ? small : large).push_back(static_cast<int32_t>(k));
  }
  // Every small class has a cell, whose rest a large one fills.
  const auto set = [&](int32_t cell, double threshold, int32_t alias) {
    thresholds_.data<float>()[cell] = static_cast<float>(threshold);
    aliases_.data<int32_t>()[cell] = alias;
  };
  while (!small.empty() && !large.empty()) {
    const int32_t cell = small.back(), filler = large.back();
    small.pop_back();
    set(cell, share[static_cast<size_t>(cell)], filler);
    double& left = share[static_cast<size_t>(filler)];
    left -= 1.0 - share[static_cast<size_t>(cell)];
    if (left >= 1.0) continue;
    large.pop_back();
    small.push_back(filler);
  }
  // What is left is a whole cell, but for rounding.
  for (const int32_t cell : small) set(cell, 1.0, cell);
  for (const int32_t cell : large) set(cell, 1.0, cell);
}

double ClassSampler::probability(int64_t id) const {
  switch (distribution_) {
    case ClassDistribution::log_uniform:
      return std::log1p(1.0 / static_cast<double>(id + 1)) /
             std::log(static_cast<double>(classes_) + 1.0);
    case ClassDistribution::unigram:
      return static_cast<double>(probabilities_.data<float>()[id]);
    case ClassDistribution::uniform:
      break;
  }
  return 1.0 / static_cast<double>(classes_);
}

double ClassSampler::log_expected(int64_t id) const {
  const double q = probability(id), tries = static_cast<double>(tries_);
  return std::log(unique_ ? -std::expm1(tries * std::log1p(-q)) : tries * q);
}

// The expected number of different classes, E(T) = sum of 1 - (1 - q)^T, is concave: Newton's steps
// from the left come closer and never pass the solution.
int64_t ClassSampler::tries_for(int64_t samples) const {
  double tries = static_cast<double>(samples);
  for (;;) {
    double expected = 0, slope = 0;
    for (int64_t k = 0; k < classes_; ++k) {
      const double log_miss = std::log1p(-probability(k));
      const double miss = std::exp(tries * log_miss);
      expected += 1.0 - miss;
      slope -= miss * log_miss;
    }
    const double step = (static_cast<double>(samples) - expected) / slope;
    check(std::isfinite(step) && tries + step < 0x1p31,
          "[{}] {} different classes of {} take more than 2^31 tries", name_, samples, classes_);
    tries += std::max(step, 0.0);
    if (step < 0.5) return static_cast<int64_t>(std::ceil(tries));
  }
}

int32_t ClassSampler::draw_one(kernels::PhiloxKey key, int64_t index) const {
  const kernels::Philox4 words =
      kernels::philox(key.seed, key.offset, static_cast<uint64_t>(index));
  const double u = unit_interval(words.v[0], words.v[1]);
  const auto classes = static_cast<double>(classes_);
  // Rounding may reach the end of the range.
  const auto in_range = [&](double k) { return std::min(static_cast<int64_t>(k), classes_ - 1); };
  switch (distribution_) {
    case ClassDistribution::log_uniform:
      // The whole part of (N + 1)^u in [1, N + 1): k + 1 for all u from log(k + 1) to log(k + 2),
      // over log(N + 1).
      return static_cast<int32_t>(in_range(std::exp(u * std::log(classes + 1.0)) - 1.0));
    case ClassDistribution::unigram: {
      const int64_t cell = in_range(u * classes);
      const double place = unit_interval(words.v[2], words.v[3]);
      return place < static_cast<double>(thresholds_.data<float>()[cell])
                 ? static_cast<int32_t>(cell)
                 : aliases_.data<int32_t>()[cell];
    }
    case ClassDistribution::uniform:
      break;
  }
  return static_cast<int32_t>(in_range(u * classes));
}

ClassSample ClassSampler::draw(kernels::PhiloxKey key) const {
  const auto array = [&](const char* what, int64_t count) {
    return Tensor::empty({count}, {Category::index, name_ + what}, DType::int32);
  };
  const Tensor drawn = array(".drawn", tries_);
  for (int64_t i = 0; i < tries_; ++i) drawn.data<int32_t>()[i] = draw_one(key, i);
  const Tensor ids = array(".sample", tries_), begin = array(".begin", tries_ + 1),
               order = array(".order", tries_);
  const kernels::Groups groups =
      kernels::group_by_key(drawn.exec(), drawn.data<int32_t>(), tries_, classes_,
                            ids.data<int32_t>(), begin.data<int32_t>(), order.data<int32_t>());
  const Tensor logs = Tensor::empty({groups.count}, {Category::workspace, name_ + ".log_expected"});
  for (int64_t g = 0; g < groups.count; ++g) {
    const int32_t times = groups.begin[g + 1] - groups.begin[g];
    const double log_times = unique_ ? 0.0 : std::log(static_cast<double>(times));
    logs.data<float>()[g] = static_cast<float>(log_expected(groups.keys[g]) - log_times);
  }
  return {ids.rows(0, groups.count), logs};
}

}  // namespace sketchgrad
