#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "sketchgrad/layers/mach_top_k.h"
#include "sketchgrad/tests/layers/layer_testing.h"

// What the tests of MACH's scores share. All of it is on the CPU.
namespace sketchgrad::test {

inline constexpr MachAggregation kAggregations[] = {MachAggregation::mean, MachAggregation::min,
                                                    MachAggregation::median,
                                                    MachAggregation::unbiased};

inline std::vector<int32_t> first_repetitions(int count) {
  std::vector<int32_t> result(static_cast<size_t>(count));
  std::iota(result.begin(), result.end(), 0);
  return result;
}

// Probabilities of buckets with peaks where `likely` classes of each query are, as trained
// meta-classifiers have. noise: standard deviation of the other logits.
inline std::vector<Tensor> peaked_meta(const MachMap& map, int64_t queries, int likely, float noise,
                                       uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  const Shape shape{queries, map.buckets()};
  std::vector<Tensor> meta;
  for (int64_t p = 0; p < map.places(); ++p) meta.push_back(Tensor::empty(shape, kTestData));
  for (int64_t q = 0; q < queries; ++q) {
    std::vector<int64_t> classes;
    for (int i = 0; i < likely; ++i) {
      classes.push_back(static_cast<int64_t>(random() % static_cast<uint64_t>(map.classes())));
    }
    for (int64_t p = 0; p < map.places(); ++p) {
      float* const values = meta[static_cast<size_t>(p)].data<float>() + q * map.buckets();
      double sum = 0;
      for (int64_t b = 0; b < map.buckets(); ++b) values[b] = noise * normal(random);
      for (const int64_t id : classes) values[map.bucket(p, id)] += 5.0f + normal(random);
      for (int64_t b = 0; b < map.buckets(); ++b) sum += values[b] = std::exp(values[b]);
      for (int64_t b = 0; b < map.buckets(); ++b) values[b] /= static_cast<float>(sum);
    }
  }
  return meta;
}

// By its definition, with a loop over everything and a full sort.
struct Ranking {
  std::vector<int32_t> ids;
  std::vector<float> scores;
  bool operator==(const Ranking&) const = default;
};

inline Ranking rank_all(const MachMap& map, const std::vector<Tensor>& meta, int64_t query,
                        int64_t k, MachAggregation aggregation) {
  std::vector<float> scores, values;
  for (int64_t c = 0; c < map.classes(); ++c) {
    values.clear();
    for (int64_t p = 0; p < map.places(); ++p) {
      const float value =
          meta[static_cast<size_t>(p)].data<float>()[query * map.buckets() + map.bucket(p, c)];
      values.push_back(std::isnan(value) ? -std::numeric_limits<float>::infinity() : value);
    }
    scores.push_back(mach_aggregate(aggregation, values.data(), map.places(), map.buckets()));
  }
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  Ranking result;
  for (int64_t i = 0; i < k; ++i) {
    result.ids.push_back(order[static_cast<size_t>(i)]);
    result.scores.push_back(scores[static_cast<size_t>(result.ids.back())]);
  }
  return result;
}

inline Ranking ranking_of(const TopK& top, int64_t query) {
  return {top.ids.rows(query, 1).to_vector<int32_t>(),
          top.scores.rows(query, 1).to_vector<float>()};
}

}  // namespace sketchgrad::test
