#include "sketchgrad/layers/adaptive_cutoffs.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "sketchgrad/framework/tensor.h"
#include "sketchgrad/kernels/gemm.h"

namespace sketchgrad {

namespace {

constexpr int kPlaces = 400;
// Forward, and the gradients of both factors.
constexpr double kProducts = 3;

double median_seconds(int64_t tokens, int64_t classes, int64_t input, Device device) {
  const auto matrix = [&](int64_t rows, int64_t cols) {
    return Tensor::full({rows, cols}, 0.5f, {Category::workspace, "cutoffs.product"}, device);
  };
  const Tensor x = matrix(tokens, input), weight = matrix(classes, input),
               logits = matrix(tokens, classes);
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) {
    synchronize(device);
    const auto start = std::chrono::steady_clock::now();
    kernels::gemm(x.exec(), kernels::Transpose::no, kernels::Transpose::yes, 1.0f, x.matrix(),
                  weight.matrix(), 0.0f, logits.matrix());
    synchronize(device);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + 4, seconds.end());
  return seconds[4];
}

// The expected times of the parts, from sums of counts.
class Costs {
 public:
  Costs(const std::vector<int64_t>& counts, const ProductCost& product,
        const CutoffOptions& options)
      : product_(product), options_(options) {
    double total = 0;
    sums_.push_back(0);
    for (const int64_t count : counts) sums_.push_back(total += static_cast<double>(count));
  }
  // Of all occurrences, in classes [0, end).
  double share(int64_t end) const { return sums_[static_cast<size_t>(end)] / sums_.back(); }

  double head(int64_t classes) const {
    return kProducts * product_.seconds(tokens(), static_cast<double>(classes), input());
  }
  // Cluster i of classes [begin, end), with its projection.
  double cluster(size_t i, int64_t begin, int64_t end) const {
    const double here = tokens() * (share(end) - share(begin));
    const double columns = std::max(
        1.0, std::floor(input() / std::pow(options_.division, static_cast<double>(i) + 1)));
    return kProducts * (product_.seconds(here, columns, input()) +
                        product_.seconds(here, static_cast<double>(end - begin), columns));
  }

 private:
  double tokens() const { return static_cast<double>(options_.tokens); }
  double input() const { return static_cast<double>(options_.input); }

  ProductCost product_;
  CutoffOptions options_;
  std::vector<double> sums_;
};

void check_counts(const std::vector<int64_t>& counts, const CutoffOptions& options) {
  check(counts.size() >= 2, "[cutoffs] {} classes cannot be cut", counts.size());
  check(options.max_clusters >= 1 && options.tokens >= 1 && options.input >= 1 &&
            options.division >= 1,
        "[cutoffs] {} clusters, {} tokens, {} inputs, division {}: all must be at least 1",
        options.max_clusters, options.tokens, options.input, options.division);
  for (size_t v = 1; v < counts.size(); ++v) {
    check(counts[v] >= 0 && counts[v] <= counts[v - 1],
          "[cutoffs] class {} occurs {} times, the one before it {}: they must fall", v, counts[v],
          counts[v - 1]);
  }
  check(options.head_share >= 0 && options.head_share <= 1,
        "[cutoffs] a head of {} of all occurrences, it must be in [0, 1]", options.head_share);
  check(counts[0] > 0, "[cutoffs] no class occurs");
}

// Evenly spread over the logarithm, every one where they are few.
std::vector<int64_t> places_to_cut(int64_t classes) {
  std::vector<int64_t> places;
  for (int i = 0; i <= kPlaces; ++i) {
    const double at = std::pow(static_cast<double>(classes), static_cast<double>(i) / kPlaces);
    const int64_t place = std::min(static_cast<int64_t>(std::llround(at)), classes - 1);
    if (places.empty() || place > places.back()) places.push_back(place);
  }
  return places;
}

}  // namespace

ProductCost measure_product_cost(int64_t tokens, int64_t input, Device device) {
  constexpr int64_t kFew = 16, kMany = 8192;
  const double few = median_seconds(tokens, kFew, input, device);
  const double many = median_seconds(tokens, kMany, input, device);
  const double slope = std::max(many - few, 0.1 * many) /
                       (static_cast<double>(tokens) * static_cast<double>(input) * (kMany - kFew));
  const double of_few = slope * static_cast<double>(tokens) * static_cast<double>(input) * kFew;
  return {std::max(few - of_few, 0.0), slope};
}

// best[i][p]: the least time of clusters i, i + 1, ... of some number `clusters` in all, with
// cluster i beginning at place p.
std::vector<int64_t> choose_cutoffs(const std::vector<int64_t>& counts, const ProductCost& product,
                                    const CutoffOptions& options) {
  check_counts(counts, options);
  const Costs costs(counts, product, options);
  const auto classes = static_cast<int64_t>(counts.size());
  const std::vector<int64_t> places = places_to_cut(classes);
  double least = std::numeric_limits<double>::infinity();
  std::vector<int64_t> cutoffs;
  for (int clusters = 1; clusters <= options.max_clusters; ++clusters) {
    const auto last = static_cast<size_t>(clusters) - 1;
    std::vector<std::vector<double>> best(static_cast<size_t>(clusters));
    std::vector<std::vector<size_t>> next(static_cast<size_t>(clusters));
    for (size_t i = last + 1; i-- > 0;) {
      best[i].assign(places.size(), std::numeric_limits<double>::infinity());
      next[i].assign(places.size(), places.size());
      for (size_t p = 0; p < places.size(); ++p) {
        if (i == last) {
          best[i][p] = costs.cluster(i, places[p], classes);
          continue;
        }
        for (size_t q = p + 1; q < places.size(); ++q) {
          const double time = costs.cluster(i, places[p], places[q]) + best[i + 1][q];
          if (time < best[i][p]) {
            best[i][p] = time;
            next[i][p] = q;
          }
        }
      }
    }
    for (size_t p = 0; p < places.size(); ++p) {
      // The last place is taken where no head is large enough.
      if (costs.share(places[p]) < options.head_share && p + 1 < places.size()) continue;
      const double time = costs.head(places[p] + clusters) + best[0][p];
      if (!(time < least)) continue;
      least = time;
      cutoffs.clear();
      for (size_t i = 0, at = p; i <= last; at = next[i++][at]) cutoffs.push_back(places[at]);
    }
  }
  return cutoffs;
}

double expected_seconds(const std::vector<int64_t>& counts, const std::vector<int64_t>& cutoffs,
                        const ProductCost& product, const CutoffOptions& options) {
  check_counts(counts, options);
  const Costs costs(counts, product, options);
  double time = costs.head(cutoffs.at(0) + static_cast<int64_t>(cutoffs.size()));
  for (size_t i = 0; i < cutoffs.size(); ++i) {
    const int64_t end =
        i + 1 < cutoffs.size() ? cutoffs[i + 1] : static_cast<int64_t>(counts.size());
    time += costs.cluster(i, cutoffs[i], end);
  }
  return time;
}

}  // namespace sketchgrad
