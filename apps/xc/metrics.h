#pragma once

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "sketchgrad/framework/tensor.h"

// The metrics of extreme classification. Labels of a row are class ids, all different, and -1 for
// each that is known to nobody (a class without training rows): those count as labels, and no
// prediction hits them. Predictions are class ids, best first; -1 is none.
namespace sketchgrad::apps::xc {

// How likely a label that is relevant is to be in the data (Jain, Prabhu, Varma: "Extreme
// Multi-label Loss Functions for Recommendation, Tagging, Ranking & Other Missing Label
// Applications", KDD 2016). With the N_l of N training rows that have label l,
//   p_l = 1 / (1 + C exp(-A log(N_l + B))),    C = (log N - 1) (B + 1)^A.
// Usual are A = 0.6, B = 2.6 for data sets of Amazon, 0.5 and 0.4 for those of Wikipedia, 0.55 and
// 1.5 for all others.
struct PropensityOptions {
  double a = 0.55;
  double b = 1.5;
};

class Propensities {
 public:
  // counts int32 [classes] on the CPU: N_l. Throws InvalidArgument for a negative count or one
  // above `rows`, rows < 3 (C must be positive), or A and B that are not positive.
  Propensities(const Tensor& counts, int64_t rows, const PropensityOptions& = {});
  // 1 / p_l; of label -1 as of one without training rows.
  double weight(int32_t label) const;

 private:
  Tensor counts_;
  PropensityOptions options_;
  double c_ = 0;
};

// Means over rows, which are added one by one: the order of the rows decides the last bits. Rows
// without labels are counted apart and left out of all means.
//
//   precision_at_k         hits among the first k / k, for k = 1, 3, 5; also where a row has fewer
//                          than k labels
//   recall_at_k            hits among the first k / labels, for k = 1, 10, 100
//   psp_unnormalised_at_k  sum of 1 / p_l over the hits among the first k, / k (Jain et al.
//                          2016), for k = 1, 3, 5; may exceed 1
//   psp_at_k               that mean divided by the mean of what is best for each row, the sum over
//                          its k rarest labels / k: what tables of the Extreme Classification
//                          Repository hold (as fractions, theirs are per cent)
class RankingMetrics {
 public:
  // Without propensities there is no psp.
  explicit RankingMetrics(std::optional<Propensities> propensities = {});

  void add(std::span<const int32_t> predictions, std::span<const int32_t> labels);
  int64_t rows() const { return rows_; }
  int64_t rows_without_labels() const { return rows_without_labels_; }
  // "ranked_rows", "rows_without_labels", and the metrics; null without rows. A depth beyond the
  // shortest list of predictions is left out, since it would be another metric under its name.
  nlohmann::json json() const;

 private:
  static constexpr std::array<int64_t, 3> kPrecisionDepths = {1, 3, 5};
  static constexpr std::array<int64_t, 3> kRecallDepths = {1, 10, 100};

  void add_propensity_scores(std::span<const int32_t> predictions, std::span<const int32_t> labels);

  std::optional<Propensities> propensities_;
  int64_t rows_ = 0;
  int64_t rows_without_labels_ = 0;
  int64_t fewest_predictions_;
  // Sums over rows, for the depths above.
  std::array<double, 3> precision_{};
  std::array<double, 3> recall_{};
  std::array<double, 3> psp_{};
  std::array<double, 3> best_psp_{};
};

// Whether a prediction, which may be -1 for none, is among the labels.
bool is_label(int32_t prediction, std::span<const int32_t> labels);

// How many of the first `depth` predictions are labels.
int64_t count_hits(std::span<const int32_t> predictions, int64_t depth,
                   std::span<const int32_t> labels);

}  // namespace sketchgrad::apps::xc
