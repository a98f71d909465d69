#include "sketchgrad/layers/mach_aggregation.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "sketchgrad/tests/layers/mach_testing.h"

namespace sketchgrad {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float aggregate(MachAggregation aggregation, std::vector<float> values, int64_t buckets = 5) {
  return mach_aggregate(aggregation, values.data(), static_cast<int64_t>(values.size()), buckets);
}

TEST_CASE("mach aggregation: by hand") {
  CHECK(aggregate(MachAggregation::mean, {0.5f, 0.25f, 0.75f, 0.5f}) == 0.5f);
  CHECK(aggregate(MachAggregation::mean, {0.25f}) == 0.25f);
  CHECK(aggregate(MachAggregation::min, {0.5f, 0.25f, 0.75f}) == 0.25f);
  CHECK(aggregate(MachAggregation::median, {0.5f, 0.0f, 0.75f}) == 0.5f);
  CHECK(aggregate(MachAggregation::median, {0.75f, 0.0f, 0.5f, 0.25f}) == 0.375f);
  CHECK(aggregate(MachAggregation::median, {0.75f, 0.25f}) == 0.5f);
  CHECK(aggregate(MachAggregation::median, {0.75f}) == 0.75f);
  // 5 / 4 (0.6 - 0.2)
  CHECK(aggregate(MachAggregation::unbiased, {0.8f, 0.4f}) == doctest::Approx(0.5));
  CHECK(aggregate(MachAggregation::unbiased, {0.0f, 0.0f}) == doctest::Approx(-0.25));
  // Certain of a class in all repetitions: its probability is 1.
  CHECK(aggregate(MachAggregation::unbiased, {1.0f, 1.0f}, 20) == doctest::Approx(1.0));
  CHECK(aggregate(MachAggregation::mean, {kInfinity, -kInfinity}) == -kInfinity);
  CHECK(aggregate(MachAggregation::mean, {0.5f, -kInfinity}) == -kInfinity);
}

TEST_CASE("mach aggregation: the unbiased estimate is one of the class's probability") {
  constexpr int64_t kClasses = 40, kBuckets = 6, kPlaces = 3;
  std::vector<double> probability;
  double total = 0;
  for (int64_t c = 0; c < kClasses; ++c) {
    probability.push_back(1.0 / static_cast<double>(1 + c));
    total += probability.back();
  }
  for (double& p : probability) p /= total;
  for (const int64_t id : {0, 1, 39}) {
    CAPTURE(id);
    uint64_t seed = 0;
    const auto draw = [&](MachAggregation aggregation) {
      const MachMap map("m", test::first_repetitions(kPlaces),
                        {.classes = kClasses, .buckets = kBuckets, .seed = seed++});
      std::vector<Tensor> meta;
      for (int64_t p = 0; p < kPlaces; ++p) {
        meta.push_back(Tensor::zeros({1, kBuckets}, test::kTestData));
        for (int64_t c = 0; c < kClasses; ++c) {
          meta.back().data<float>()[map.bucket(p, c)] +=
              static_cast<float>(probability[static_cast<size_t>(c)]);
        }
      }
      return double{MachScorer("test", map, meta, aggregation).score_of_class(0, id)};
    };
    const double exact = probability[static_cast<size_t>(id)];
    const test::Estimate unbiased =
        test::estimate(4000, [&] { return draw(MachAggregation::unbiased); });
    CHECK(std::abs(unbiased.mean - exact) < 4 * unbiased.error);
    // The test would notice: the mean has the others' share on top.
    const test::Estimate mean = test::estimate(4000, [&] { return draw(MachAggregation::mean); });
    CHECK(std::abs(mean.mean - (exact + (1 - exact) / kBuckets)) < 4 * mean.error);
    CHECK(mean.mean - exact > 4 * mean.error);
  }
}

TEST_CASE("mach aggregation: logarithms rank by the geometric mean") {
  const std::vector<float> p{0.5f, 0.0f, 1.0f, 1e-30f, 1e-42f, 0.125f};
  const Tensor logs = Tensor::from(p, {2, 3}, test::kTestData);
  take_logarithms({logs});
  for (size_t i = 0; i < p.size(); ++i) {
    const double expected = std::log(std::max(double{p[i]}, 1.17549435e-38));
    CHECK(double{logs.data<float>()[i]} == doctest::Approx(expected).epsilon(1e-6));
  }
  // A class that one repetition is sure of and the other holds impossible, and one that both hold
  // possible: the mean prefers the first, the geometric mean the second.
  CHECK(aggregate(MachAggregation::mean, {1.0f, 1e-6f}) >
        aggregate(MachAggregation::mean, {0.2f, 0.2f}));
  CHECK(aggregate(MachAggregation::mean, {std::log(1.0f), std::log(1e-6f)}) <
        aggregate(MachAggregation::mean, {std::log(0.2f), std::log(0.2f)}));
}

TEST_CASE("mach aggregation: names, and tensors that do not fit") {
  CHECK(parse_mach_aggregation("unbiased") == MachAggregation::unbiased);
  CHECK(parse_mach_aggregation("min") == MachAggregation::min);
  CHECK_THROWS_AS(parse_mach_aggregation("max"), InvalidArgument);
  const MachMap map("m", {3, 1}, {.classes = 9, .buckets = 4});
  const Tensor right = Tensor::zeros({5, 4}, test::kTestData);
  const auto refused = [&](const std::vector<Tensor>& meta) {
    return test::refusal([&] { MachScorer("scores", map, meta, MachAggregation::mean); });
  };
  CHECK(refused({right, right}).empty());
  CHECK(test::contains(refused({right}), "[scores] meta-probabilities of 1 repetitions"));
  CHECK(test::contains(refused({right, Tensor::zeros({6, 4}, test::kTestData)}),
                       "of repetition 1 are [6, 4], they must be [5, 4]"));
  CHECK(test::contains(refused({Tensor::zeros({5, 3}, test::kTestData), right}), "[5, 3]"));
  CHECK_FALSE(refused({right, Tensor::zeros({5, 4}, test::kTestData, DType::int32)}).empty());
  const MachMap single("m", {0}, {.classes = 9, .buckets = 1});
  CHECK(test::contains(test::refusal([&] {
                         MachScorer("scores", single, {Tensor::zeros({5, 1}, test::kTestData)},
                                    MachAggregation::unbiased);
                       }),
                       "no unbiased estimate from a single bucket"));
  const MachMap many("m", test::first_repetitions(257), {.classes = 9, .buckets = 4});
  CHECK(test::contains(test::refusal([&] {
                         MachScorer("scores", many, std::vector<Tensor>(257, right),
                                    MachAggregation::mean);
                       }),
                       "257 repetitions, at most 256"));
}

}  // namespace
}  // namespace sketchgrad
