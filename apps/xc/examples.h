#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/apps/xc/feature_weights.h"
#include "sketchgrad/apps/xc/input_settings.h"
#include "sketchgrad/apps/xc/text_features.h"
#include "sketchgrad/framework/tensor.h"

namespace sketchgrad::apps::xc {

// Rows on the CPU, as sparse vectors and sets of classes. A row's features are different and in
// ascending order. Rows may have no features, or no labels.
struct Batch {
  Tensor feature_begin;  // int32 [rows + 1]: where each row's features begin, and their number
  Tensor features;       // int32 [n], in [0, feature_dim)
  Tensor weights;        // float32 [n]
  Tensor label_begin;    // int32 [rows + 1]
  Tensor labels;         // int32 [m], in [-1, classes); -1: a class that the training set lacks
  int64_t rows() const { return feature_begin.numel() - 1; }
};

// Numbers of rows: begin, begin + 1, ... until they are changed.
class RowNumbers {
 public:
  RowNumbers(int64_t begin, int64_t count);
  std::span<int64_t> all() const {
    return {numbers_.data<int64_t>(), static_cast<size_t>(numbers_.numel())};
  }

 private:
  Tensor numbers_;
};

// A file of prepared examples, mapped: its bytes are in the system's page cache and in none of the
// allocator's figures. Copies share it; concurrent calls are fine.
class Examples {
 public:
  // Throws DataError where the file is cut, or its header or class counts are damaged. Of rows and
  // names nothing is read here; damage to them that makes no sense is found when they are used.
  static Examples open(const std::string& path);

  const InputSettings& input() const;
  int64_t rows() const;
  // Of the training set: the file itself, or that which it was prepared like.
  int64_t training_rows() const;
  int64_t classes() const;
  int64_t feature_dim() const { return input().feature_dim; }
  // As batches have them: different ones of each row.
  int64_t features_total() const;
  int64_t labels_total() const;
  int64_t max_features_per_row() const;
  int64_t max_labels_per_row() const;
  // Of the whole content, known without reading it.
  uint64_t checksum() const;
  // Of the settings of the input, the names of the classes and their counts: the same in a training
  // set and in all that is prepared like it.
  uint64_t classes_checksum() const;

  // [classes]: rows of the training set in which each is a label. With names, ids go by falling
  // count.
  std::span<const int32_t> class_counts() const;
  // [feature_dim]: rows of the training set that have each; none where weights are tf.
  std::span<const int32_t> feature_counts() const;
  FeatureWeights feature_weights() const;
  bool has_class_names() const;
  // Where classes have no names: the id. Throws InvalidArgument for ids that there are not, and
  // DataError for damage.
  std::string class_name(int32_t id) const;
  // The same without a copy, as long as there is one of this object; only where classes have names.
  std::string_view class_name_view(int32_t id) const;

  // Throws InvalidArgument for rows that there are not, and DataError for damage.
  Batch batch(std::span<const int64_t> rows) const;

 private:
  struct File;
  explicit Examples(std::shared_ptr<const File> file) : file_(std::move(file)) {}
  std::shared_ptr<const File> file_;
};

// Texts that are in no file, as rows without labels: the same features and weights as prepared rows
// of the same texts.
Batch batch_of(const TextFeatures& features, const FeatureWeights& weights,
               std::span<const std::string> texts);

}  // namespace sketchgrad::apps::xc
