#include "sketchgrad/layers/class_sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {
namespace {

std::vector<int64_t> skewed_counts(int64_t classes) {
  std::vector<int64_t> counts;
  for (int64_t k = 0; k < classes; ++k) counts.push_back(1 + 5000 / (k % 17 + 1));
  return counts;
}

ClassSamplerOptions options(ClassDistribution distribution, int64_t classes, int64_t samples,
                            bool unique) {
  ClassSamplerOptions result{.samples = samples, .distribution = distribution, .unique = unique};
  if (distribution == ClassDistribution::unigram) result.counts = skewed_counts(classes);
  return result;
}

constexpr ClassDistribution kDistributions[] = {
    ClassDistribution::log_uniform, ClassDistribution::unigram, ClassDistribution::uniform};

// How far a sum of squared standard normal deviates is from what it is expected to be, in standard
// deviations of its own (Wilson and Hilferty 1931).
double deviation(double chi_square, double degrees) {
  const double spread = 2.0 / (9.0 * degrees);
  return (std::cbrt(chi_square / degrees) - (1.0 - spread)) / std::sqrt(spread);
}

// Chi-square of counts against expected ones; neighbours are pooled until 10 are expected.
double deviation_of_counts(const std::vector<double>& counts, const std::vector<double>& expected) {
  double chi_square = 0, degrees = -1, pooled = 0, pooled_expected = 0;
  for (size_t k = 0; k < counts.size(); ++k) {
    pooled += counts[k];
    pooled_expected += expected[k];
    if (pooled_expected < 10.0) continue;
    chi_square += (pooled - pooled_expected) * (pooled - pooled_expected) / pooled_expected;
    degrees += 1;
    pooled = pooled_expected = 0;
  }
  return deviation(chi_square, degrees);
}

std::vector<double> expected_counts(const ClassSampler& sampler, int64_t classes, double draws) {
  std::vector<double> expected;
  for (int64_t k = 0; k < classes; ++k) expected.push_back(draws * sampler.probability(k));
  return expected;
}

// What each class has been drawn, from what it counts for: expected / drawn.
void add_draws(const ClassSampler& sampler, const ClassSample& sample,
               std::vector<double>& counts) {
  for (int64_t i = 0; i < sample.ids.numel(); ++i) {
    const int32_t id = sample.ids.data<int32_t>()[i];
    counts[static_cast<size_t>(id)] +=
        std::exp(sampler.log_expected(id) - double{sample.log_expected.data<float>()[i]});
  }
}

TEST_CASE("class sampler: probabilities add up to 1") {
  for (const ClassDistribution distribution : kDistributions) {
    for (const int64_t classes : {1, 2, 7, 1000}) {
      const ClassSampler sampler("s", classes, options(distribution, classes, 1, false));
      double total = 0;
      for (int64_t k = 0; k < classes; ++k) total += sampler.probability(k);
      CHECK(total == doctest::Approx(1.0).epsilon(1e-6));
    }
  }
}

TEST_CASE("class sampler: draws have the stated distribution") {
  for (const ClassDistribution distribution : kDistributions) {
    for (const int64_t classes : {2, 7, 33, 1000, 50000}) {
      for (const int64_t samples : {1, 7, 4000}) {
        CAPTURE(static_cast<int>(distribution));
        CAPTURE(classes);
        CAPTURE(samples);
        const ClassSampler sampler("s", classes, options(distribution, classes, samples, false));
        const int64_t draws = std::max<int64_t>(20000, 2 * classes);
        const int64_t repeats = (draws + samples - 1) / samples;
        std::vector<double> counts(static_cast<size_t>(classes));
        Rng rng(17);
        for (int64_t i = 0; i < repeats; ++i) add_draws(sampler, sampler.draw(rng.next()), counts);
        const auto total = static_cast<double>(repeats * samples);
        CHECK(std::accumulate(counts.begin(), counts.end(), 0.0) ==
              doctest::Approx(total).epsilon(1e-4));
        CHECK(std::abs(deviation_of_counts(counts, expected_counts(sampler, classes, total))) <
              4.5);
      }
    }
  }
}

// The published implementation draws round(e^{u ln N}) - 1, and this test must notice.
TEST_CASE("class sampler: the test of the distribution notices the published sampler's error") {
  constexpr int64_t kClasses = 1000, kDraws = 20000;
  const ClassSampler sampler("s", kClasses,
                             options(ClassDistribution::log_uniform, kClasses, 10, false));
  std::vector<double> counts(kClasses);
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> uniform;
  for (int64_t i = 0; i < kDraws; ++i) {
    counts[static_cast<size_t>(std::round(std::exp(uniform(random) * std::log(kClasses))) - 1)]++;
  }
  CHECK(deviation_of_counts(counts, expected_counts(sampler, kClasses, kDraws)) > 10);
}

TEST_CASE("class sampler: a unique sample holds a class with the stated probability") {
  struct Size {
    int64_t classes, samples;
  };
  for (const ClassDistribution distribution : kDistributions) {
    for (const Size size :
         {Size{2, 1}, {7, 3}, {7, 6}, {33, 1}, {1000, 40}, {1000, 900}, {20000, 2000}}) {
      CAPTURE(static_cast<int>(distribution));
      CAPTURE(size.classes);
      CAPTURE(size.samples);
      const ClassSampler sampler("s", size.classes,
                                 options(distribution, size.classes, size.samples, true));
      constexpr int kRepeats = 400;
      std::vector<int> held(static_cast<size_t>(size.classes));
      double total = 0;
      Rng rng(3);
      for (int i = 0; i < kRepeats; ++i) {
        const ClassSample sample = sampler.draw(rng.next());
        const auto ids = sample.ids.to_vector<int32_t>();
        CHECK(std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) == ids.end());
        for (const int32_t id : ids) ++held[static_cast<size_t>(id)];
        total += static_cast<double>(ids.size());
      }
      // Sums over classes of (held - expected)^2 / variance, and of what is expected to be held.
      double chi_square = 0, degrees = 0, expected_total = 0;
      for (int64_t k = 0; k < size.classes; ++k) {
        const double q = std::exp(sampler.log_expected(k));
        expected_total += q;
        const double variance = kRepeats * q * (1 - q);
        if (variance < 4) continue;  // not normal
        const double difference = held[static_cast<size_t>(k)] - kRepeats * q;
        chi_square += difference * difference / variance;
        degrees += 1;
      }
      if (degrees > 0) CHECK(deviation(chi_square, degrees) < 4.5);
      // One try fewer would not do.
      CHECK(expected_total >= static_cast<double>(size.samples) - 1e-3);
      CHECK(expected_total <= static_cast<double>(size.samples) + 1.0);
      CHECK(std::abs(total / kRepeats - expected_total) < 4 * std::sqrt(expected_total / kRepeats));
    }
  }
}

TEST_CASE("class sampler: what a class counts for, by hand") {
  const ClassSampler draws("s", 4, {.samples = 10, .unique = false});
  CHECK(draws.tries() == 10);
  CHECK(draws.probability(0) == doctest::Approx(std::log(2.0) / std::log(5.0)));
  CHECK(draws.log_expected(3) == doctest::Approx(std::log(10 * std::log(1.25) / std::log(5.0))));
  const ClassSampler unique(
      "s", 5, {.samples = 3, .distribution = ClassDistribution::uniform, .unique = true});
  // 5 (1 - 0.8^4) = 2.95, 5 (1 - 0.8^5) = 3.36
  CHECK(unique.tries() == 5);
  CHECK(unique.log_expected(2) == doctest::Approx(std::log(1 - std::pow(0.8, 5))));
  const ClassSampler counted("s", 3,
                             {.samples = 1,
                              .distribution = ClassDistribution::unigram,
                              .unique = false,
                              .counts = {1, 4, 9},
                              .power = 0.5});
  CHECK(counted.probability(2) == doctest::Approx(0.5));
}

TEST_CASE("class sampler: a sample is a function of its key") {
  const ClassSampler sampler("s", 1000, {.samples = 100});
  const auto ids = [&](kernels::PhiloxKey key) {
    return sampler.draw(key).ids.to_vector<int32_t>();
  };
  CHECK(ids({1, 2}) == ids({1, 2}));
  CHECK(ids({1, 2}) != ids({1, 3}));
  CHECK(ids({1, 2}) != ids({2, 2}));
}

TEST_CASE("class sampler: its tables are counted, and nothing of a sample stays") {
  const auto live = [](Category category) { return allocator(kCpu).current()[category]; };
  const int64_t before = live(Category::data), index_before = live(Category::index);
  {
    const ClassSampler sampler("s", 500, options(ClassDistribution::unigram, 500, 50, true));
    CHECK(live(Category::data) - before == 500 * 12);
    sampler.draw({1, 2});
  }
  CHECK(live(Category::data) == before);
  CHECK(live(Category::index) == index_before);
}

TEST_CASE("class sampler: options that do not fit are refused with what is wrong") {
  const auto refused = [](int64_t classes, const ClassSamplerOptions& options) {
    return test::refusal([&] { ClassSampler("words", classes, options); });
  };
  CHECK(test::contains(refused(5, {.samples = 5}), "5 different classes cannot be a sample of 5"));
  CHECK(refused(5, {.samples = 5, .unique = false}).empty());
  CHECK(test::contains(refused(5, {.samples = 0}), "0 samples"));
  CHECK(test::contains(refused(0, {.samples = 1}), "0 classes"));
  ClassSamplerOptions unigram{.samples = 1, .distribution = ClassDistribution::unigram};
  unigram.counts = {3, 2};
  CHECK(test::contains(refused(3, unigram), "2 counts for 3 classes"));
  unigram.counts = {3, 0, 1};
  CHECK(test::contains(refused(3, unigram), "class 1 occurs 0 times"));
  CHECK(parse_class_distribution("unigram") == ClassDistribution::unigram);
  CHECK_THROWS_AS(parse_class_distribution("zipf"), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad
