#pragma once

#include <cstdint>

#include "sketchgrad/apps/common/content_hash.h"
#include "sketchgrad/framework/checkpoint.h"

// A file of prepared examples: safetensors with these tensors, in this order.
namespace sketchgrad::apps::xc {

// int64 [rows + 1]: where each row's record begins in kRows.
inline constexpr const char* kBegin = "begin";
// int64 [classes + 1]: where each class's name begins in kNames. It and kNames are missing where
// classes have no names (XC files).
inline constexpr const char* kNameBegin = "class.name_begin";
// int32 [classes]: rows of the training set in which each class is a label.
inline constexpr const char* kCount = "class.count";
// Bytes in int32 elements, the last ones padded: safetensors has no text tensors.
inline constexpr const char* kNames = "class.names";
// int32 [feature_dim]: rows of the training set that have each feature. Only where weights are
// tf-idf.
inline constexpr const char* kFeatureCount = "feature.count";
// int32, a record a row: number of labels, number of features, labels (-1: a class that the
// training set does not have), features in ascending order, and, for files with values, the bits of
// a float for each feature. Features of text stand as often as in the text.
inline constexpr const char* kRows = "rows";
inline constexpr int64_t kRecordHeader = 2;

// Metadata. All but the rows themselves, begins and names is covered by kChecksum, which is checked
// when a file is opened.
inline constexpr const char* kVersion = "examples.version";
inline constexpr int64_t kThisVersion = 2;
inline constexpr const char* kRowCount = "examples.rows";
// Of the training set, whose classes these are.
inline constexpr const char* kTrainingRows = "examples.training_rows";
inline constexpr const char* kClassCount = "examples.classes";
inline constexpr const char* kFeatureTotal = "examples.features";
inline constexpr const char* kLabelTotal = "examples.labels";
inline constexpr const char* kMostFeatures = "examples.most_features";
inline constexpr const char* kMostLabels = "examples.most_labels";
inline constexpr const char* kNameBytes = "class.names.bytes";
inline constexpr const char* kRowsChecksum = "rows.checksum";
inline constexpr const char* kCountChecksum = "class.count.checksum";
inline constexpr const char* kFeatureCountChecksum = "feature.count.checksum";
inline constexpr const char* kClassesChecksum = "classes.checksum";
inline constexpr const char* kChecksum = "checksum";

// Of all metadata but kChecksum itself.
inline uint64_t metadata_checksum(const StateDict& state) {
  ContentHash hash;
  for (const auto& [key, value] : state.metadata) {
    if (key != kChecksum) hash.add(key).add(value);
  }
  return hash.value();
}

}  // namespace sketchgrad::apps::xc
