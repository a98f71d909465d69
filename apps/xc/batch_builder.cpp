#include "sketchgrad/apps/xc/batch_builder.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace sketchgrad::apps::xc {

namespace {

Tensor ints(int64_t count, Category category, const char* name) {
  return Tensor::empty({count}, {category, name}, DType::int32);
}

// f(feature, how often) for each different one.
template <class Function>
void for_each_run(std::span<const int32_t> features, Function f) {
  for (size_t begin = 0; begin < features.size();) {
    size_t end = begin + 1;
    while (end < features.size() && features[end] == features[begin]) ++end;
    f(features[begin], static_cast<int64_t>(end - begin));
    begin = end;
  }
}

}  // namespace

void BatchBuilder::count(const RowView& row) {
  ++rows_;
  labels_ += static_cast<int64_t>(row.labels.size());
  for_each_run(row.features, [&](int32_t, int64_t) { ++features_; });
}

void BatchBuilder::begin_copies() {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check(features_ <= kMost && labels_ <= kMost,
        "[batch] {} features and {} labels in {} rows, at most {}", features_, labels_, rows_,
        kMost);
  batch_.feature_begin = ints(rows_ + 1, Category::index, "batch.feature_begin");
  batch_.features = ints(features_, Category::data, "batch.features");
  batch_.weights = Tensor::empty({features_}, {Category::data, "batch.weights"});
  batch_.label_begin = ints(rows_ + 1, Category::index, "batch.label_begin");
  batch_.labels = ints(labels_, Category::data, "batch.labels");
  batch_.feature_begin.data<int32_t>()[0] = 0;
  batch_.label_begin.data<int32_t>()[0] = 0;
}

void BatchBuilder::copy(const RowView& row) {
  std::copy(row.labels.begin(), row.labels.end(), batch_.labels.data<int32_t>() + label_);
  label_ += static_cast<int32_t>(row.labels.size());

  int32_t* features = batch_.features.data<int32_t>() + feature_;
  float* weights = batch_.weights.data<float>() + feature_;
  int64_t n = 0;
  for_each_run(row.features, [&](int32_t feature, int64_t count) {
    features[n] = feature;
    weights[n++] = static_cast<float>(count);
  });
  if (row.value_bits != nullptr && n > 0) {
    std::memcpy(weights, row.value_bits, static_cast<size_t>(n) * sizeof(float));
  }
  weights_.apply({features, static_cast<size_t>(n)}, weights);
  feature_ += static_cast<int32_t>(n);
  ++row_;
  batch_.feature_begin.data<int32_t>()[row_] = feature_;
  batch_.label_begin.data<int32_t>()[row_] = label_;
}

Batch BatchBuilder::finish() {
  check(row_ == rows_, "[batch] {} rows copied, {} counted", row_, rows_);
  return std::move(batch_);
}

Batch batch_of(const TextFeatures& features, const FeatureWeights& weights,
               std::span<const std::string> texts) {
  BatchBuilder builder(weights);
  std::vector<int32_t> found;
  const auto view = [&](const std::string& text) {
    found.clear();
    features.append(text, found);
    return RowView{{}, found};
  };
  for (const std::string& text : texts) builder.count(view(text));
  builder.begin_copies();
  for (const std::string& text : texts) builder.copy(view(text));
  return builder.finish();
}

}  // namespace sketchgrad::apps::xc
