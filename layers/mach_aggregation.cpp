#include "sketchgrad/layers/mach_aggregation.h"

#include <algorithm>
#include <limits>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/math_rules.h"

namespace sketchgrad {

namespace {

float mean_of(const float* values, int64_t count) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += values[i];
  return sum / static_cast<float>(count);
}

float median_of(float* values, int64_t count) {
  float* const middle = values + count / 2;
  std::nth_element(values, middle, values + count);
  if (count % 2 == 1) return *middle;
  const float below = *std::max_element(values, middle);
  return 0.5f * (below + *middle);
}

float aggregate(MachAggregation aggregation, float* values, int64_t count, int64_t buckets) {
  switch (aggregation) {
    case MachAggregation::min:
      return *std::min_element(values, values + count);
    case MachAggregation::median:
      return median_of(values, count);
    case MachAggregation::unbiased: {
      const auto b = static_cast<double>(buckets);
      return static_cast<float>(b / (b - 1.0) * (double{mean_of(values, count)} - 1.0 / b));
    }
    case MachAggregation::mean:
      break;
  }
  return mean_of(values, count);
}

struct LogElement {
  float* values;
  void operator()(int64_t i) const {
    constexpr float kSmallest = std::numeric_limits<float>::min();
    const float p = values[i];
    values[i] = kernels::fast_log(p < kSmallest ? kSmallest : p);
  }
};

}  // namespace

MachAggregation parse_mach_aggregation(const std::string& word) {
  if (word == "mean") return MachAggregation::mean;
  if (word == "min") return MachAggregation::min;
  if (word == "median") return MachAggregation::median;
  if (word == "unbiased") return MachAggregation::unbiased;
  throw InvalidArgument(fmt::format("[mach] \"{}\" is none of mean, min, median, unbiased", word));
}

float MachScorer::without_nan(float value) {
  return value == value ? value : -std::numeric_limits<float>::infinity();
}

float mach_aggregate(MachAggregation aggregation, float* values, int64_t count, int64_t buckets) {
  // The sum of infinities of both signs is none.
  return MachScorer::without_nan(aggregate(aggregation, values, count, buckets));
}

void take_logarithms(const std::vector<Tensor>& meta) {
  for (const Tensor& one : meta) {
    check(one.device() == kCpu, "[mach] meta-probabilities must be on the CPU");
    kernels::for_each(kernels::TbbPolicy{}, one.numel(), LogElement{one.data<float>()});
  }
}

MachScorer::MachScorer(const std::string& name, const MachMap& map, const std::vector<Tensor>& meta,
                       MachAggregation aggregation)
    : map_(map), aggregation_(aggregation) {
  check(static_cast<int64_t>(meta.size()) == map.places(),
        "[{}] meta-probabilities of {} repetitions for a map of {}", name, meta.size(),
        map.places());
  check(map.places() <= kMostPlaces, "[{}] {} repetitions, at most {} can be scored", name,
        map.places(), kMostPlaces);
  check(aggregation != MachAggregation::unbiased || map.buckets() > 1,
        "[{}] there is no unbiased estimate from a single bucket", name);
  queries_ = meta[0].dim() == 2 ? meta[0].size(0) : 0;
  for (size_t p = 0; p < meta.size(); ++p) {
    check(meta[p].shape() == Shape{queries_, map.buckets()} && meta[p].device() == kCpu,
          "[{}] meta-probabilities of repetition {} are {}, they must be [{}, {}] on the CPU", name,
          map.repetitions()[p], to_string(meta[p].shape()), queries_, map.buckets());
    meta_.push_back(meta[p].data<float>());
  }
}

float MachScorer::score_of_class(int64_t query, int64_t class_id) const {
  int32_t buckets[kMostPlaces];
  map_.buckets_of_class(class_id, buckets);
  return score(query, buckets);
}

}  // namespace sketchgrad
