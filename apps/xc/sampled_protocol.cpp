#include "sketchgrad/apps/xc/sampled_protocol.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "sketchgrad/apps/common/shuffle.h"
#include "sketchgrad/apps/xc/metrics.h"
#include "sketchgrad/kernels/for_each.h"

namespace sketchgrad::apps::xc {

namespace {

// Samples are other draws than those of the model and of the order of rows, which have the same
// seed.
constexpr uint64_t kCandidateSeed = 0x63616e646964;

int64_t count_known(std::span<const int32_t> labels) {
  return std::count_if(labels.begin(), labels.end(), [](int32_t label) { return label >= 0; });
}

float without_nan(float score) {
  return score == score ? score : -std::numeric_limits<float>::infinity();
}

// Candidates that rank before candidate `i`.
int64_t count_better(std::span<const int32_t> ids, std::span<const float> scores, size_t i) {
  const float score = without_nan(scores[i]);
  int64_t count = 0;
  for (size_t j = 0; j < ids.size(); ++j) {
    const float other = without_nan(scores[j]);
    const bool better = other > score || (other == score && ids[j] < ids[i]);
    count += ids[j] >= 0 && better ? 1 : 0;
  }
  return count;
}

}  // namespace

SampledProtocol::SampledProtocol(const SampledProtocolOptions& options) : options_(options) {
  check(options.samples >= 1 && options.samples < options.classes,
        "[sampled_protocol] a sample of {} of {} classes", options.samples, options.classes);
}

int64_t SampledProtocol::candidates(int64_t row, std::span<const int32_t> labels,
                                    std::span<int32_t> out) const {
  const int64_t known = count_known(labels), total = known + options_.samples;
  check(total <= options_.classes,
        "[sampled_protocol] row {} has {} of {} classes, which leaves no {} others", row, known,
        options_.classes, options_.samples);
  check(static_cast<int64_t>(out.size()) >= total,
        "[sampled_protocol] room for {} candidates, row {} has {}", out.size(), row, total);
  auto end = out.begin();
  for (const int32_t label : labels) {
    check(label >= -1 && label < options_.classes,
          "[sampled_protocol] label {} of row {} is none of {} classes", label, row,
          options_.classes);
    if (label >= 0) *end++ = label;
  }
  const Shuffle order(options_.classes,
                      {options_.seed ^ kCandidateSeed, static_cast<uint64_t>(row)});
  for (int64_t position = 0; end - out.begin() < total; ++position) {
    const auto id = static_cast<int32_t>(order(position));
    if (!is_label(id, labels)) *end++ = id;
  }
  return total;
}

Tensor SampledProtocol::candidates(int64_t first_row,
                                   std::span<const std::span<const int32_t>> labels) const {
  int64_t longest = options_.samples;
  for (const auto& row : labels) longest = std::max(longest, count_known(row) + options_.samples);
  const auto rows = static_cast<int64_t>(labels.size());
  const Tensor ids =
      Tensor::empty({rows, longest}, {Category::data, "sampled_protocol.ids"}, DType::int32);
  kernels::for_each_range(kernels::TbbPolicy{}, rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const std::span<int32_t> out(ids.data<int32_t>() + i * longest, static_cast<size_t>(longest));
      const int64_t count = candidates(first_row + i, labels[static_cast<size_t>(i)], out);
      std::fill(out.begin() + count, out.end(), -1);
    }
  });
  return ids;
}

void SampledProtocol::add(std::span<const int32_t> ids, std::span<const float> scores,
                          std::span<const int32_t> labels) {
  check(ids.size() == scores.size(), "[sampled_protocol] {} scores for {} candidates",
        scores.size(), ids.size());
  if (labels.empty()) {
    ++rows_without_labels_;
    return;
  }
  ++rows_;
  std::array<int64_t, kDepths.size()> hits{};
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!is_label(ids[i], labels)) continue;
    const int64_t before = count_better(ids, scores, i);
    for (size_t d = 0; d < kDepths.size(); ++d) hits[d] += before < kDepths[d] ? 1 : 0;
  }
  for (size_t d = 0; d < kDepths.size(); ++d) {
    recall_[d] += static_cast<double>(hits[d]) / static_cast<double>(labels.size());
  }
}

nlohmann::json SampledProtocol::json() const {
  nlohmann::json result = {{"samples", options_.samples},
                           {"rows", rows_},
                           {"rows_without_labels", rows_without_labels_}};
  for (size_t d = 0; d < kDepths.size(); ++d) {
    nlohmann::json& entry = result[fmt::format("sampled_recall_at_{}", kDepths[d])];
    if (rows_ > 0) entry = recall_[d] / static_cast<double>(rows_);
  }
  return result;
}

}  // namespace sketchgrad::apps::xc
