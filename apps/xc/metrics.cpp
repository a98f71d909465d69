#include "sketchgrad/apps/xc/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace sketchgrad::apps::xc {

bool is_label(int32_t prediction, std::span<const int32_t> labels) {
  return prediction >= 0 && std::find(labels.begin(), labels.end(), prediction) != labels.end();
}

Propensities::Propensities(const Tensor& counts, int64_t rows, const PropensityOptions& options)
    : counts_(counts), options_(options) {
  check(rows >= 3, "[propensities] {} rows, the formula needs 3 or more", rows);
  check(options.a > 0 && options.b > 0, "[propensities] A = {}, B = {}, they must be positive",
        options.a, options.b);
  check(counts.device() == kCpu, "[propensities] the counts must be on the CPU");
  const int32_t* const count = counts.data<int32_t>();
  for (int64_t l = 0; l < counts.numel(); ++l) {
    check(count[l] >= 0 && count[l] <= rows, "[propensities] label {} is in {} of {} rows", l,
          count[l], rows);
  }
  c_ = (std::log(static_cast<double>(rows)) - 1.0) * std::pow(options.b + 1.0, options.a);
}

double Propensities::weight(int32_t label) const {
  check(label >= -1 && label < counts_.numel(), "[propensities] label {} of {} classes", label,
        counts_.numel());
  const double count = label < 0 ? 0.0 : static_cast<double>(counts_.data<int32_t>()[label]);
  return 1.0 + c_ * std::exp(-options_.a * std::log(count + options_.b));
}

RankingMetrics::RankingMetrics(std::optional<Propensities> propensities)
    : propensities_(std::move(propensities)),
      fewest_predictions_(std::numeric_limits<int64_t>::max()) {}

void RankingMetrics::add(std::span<const int32_t> predictions, std::span<const int32_t> labels) {
  if (labels.empty()) {
    ++rows_without_labels_;
    return;
  }
  ++rows_;
  fewest_predictions_ = std::min(fewest_predictions_, static_cast<int64_t>(predictions.size()));
  for (size_t i = 0; i < kPrecisionDepths.size(); ++i) {
    const int64_t k = kPrecisionDepths[i];
    precision_[i] +=
        static_cast<double>(count_hits(predictions, k, labels)) / static_cast<double>(k);
  }
  for (size_t i = 0; i < kRecallDepths.size(); ++i) {
    recall_[i] += static_cast<double>(count_hits(predictions, kRecallDepths[i], labels)) /
                  static_cast<double>(labels.size());
  }
  if (propensities_) add_propensity_scores(predictions, labels);
}

void RankingMetrics::add_propensity_scores(std::span<const int32_t> predictions,
                                           std::span<const int32_t> labels) {
  std::vector<double> best;
  for (const int32_t label : labels) best.push_back(propensities_->weight(label));
  std::sort(best.begin(), best.end(), std::greater<>());
  for (size_t i = 0; i < kPrecisionDepths.size(); ++i) {
    const auto k = static_cast<size_t>(kPrecisionDepths[i]);
    double sum = 0, best_sum = 0;
    for (size_t j = 0; j < std::min(k, predictions.size()); ++j) {
      if (is_label(predictions[j], labels)) sum += propensities_->weight(predictions[j]);
    }
    for (size_t j = 0; j < std::min(k, best.size()); ++j) best_sum += best[j];
    psp_[i] += sum / static_cast<double>(k);
    best_psp_[i] += best_sum / static_cast<double>(k);
  }
}

nlohmann::json RankingMetrics::json() const {
  nlohmann::json result = {{"ranked_rows", rows_}, {"rows_without_labels", rows_without_labels_}};
  const auto add = [&](const std::string& name, const std::array<int64_t, 3>& depths,
                       const auto& value) {
    for (size_t i = 0; i < depths.size(); ++i) {
      if (depths[i] > fewest_predictions_) continue;
      nlohmann::json& entry = result[fmt::format("{}_at_{}", name, depths[i])];
      if (rows_ > 0) entry = value(i);
    }
  };
  const auto mean_of = [&](const std::array<double, 3>& sums) {
    return [&](size_t i) { return sums[i] / static_cast<double>(rows_); };
  };
  add("precision", kPrecisionDepths, mean_of(precision_));
  add("recall", kRecallDepths, mean_of(recall_));
  if (propensities_) {
    add("psp_unnormalised", kPrecisionDepths, mean_of(psp_));
    add("psp", kPrecisionDepths, [&](size_t i) { return psp_[i] / best_psp_[i]; });
  }
  return result;
}

int64_t count_hits(std::span<const int32_t> predictions, int64_t depth,
                   std::span<const int32_t> labels) {
  const size_t count = std::min(static_cast<size_t>(depth), predictions.size());
  const auto first = predictions.first(count);
  return std::count_if(first.begin(), first.end(),
                       [&](int32_t prediction) { return is_label(prediction, labels); });
}

}  // namespace sketchgrad::apps::xc
