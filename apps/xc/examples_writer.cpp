#include "sketchgrad/apps/xc/examples_writer.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "sketchgrad/apps/xc/examples_format.h"

namespace sketchgrad::apps::xc {

namespace {

using nlohmann::json;

// Of the header with its length: a page, of which the names and numbers take a part.
constexpr size_t kHeaderBytes = 4096;

int64_t name_elements(int64_t bytes) { return (bytes + 3) / 4; }

}  // namespace

void Records::Totals::add(const Totals& other) {
  rows += other.rows;
  features += other.features;
  labels += other.labels;
  unknown_labels += other.unknown_labels;
  most_features = std::max(most_features, other.most_features);
  most_labels = std::max(most_labels, other.most_labels);
  without_features += other.without_features;
  without_labels += other.without_labels;
}

void Records::clear() {
  all_.clear();
  ends_.clear();
  totals_ = {};
}

void Records::add(std::span<const int32_t> labels, std::span<const int32_t> features,
                  std::span<const float> values) {
  constexpr size_t kMost = std::numeric_limits<int32_t>::max();
  check(labels.size() <= kMost && features.size() <= kMost,
        "[prepare] {} labels and {} features in a row, at most {}", labels.size(), features.size(),
        kMost);
  all_.push_back(static_cast<int32_t>(labels.size()));
  all_.push_back(static_cast<int32_t>(features.size()));
  all_.insert(all_.end(), labels.begin(), labels.end());
  all_.insert(all_.end(), features.begin(), features.end());
  for (const float value : values) all_.push_back(std::bit_cast<int32_t>(value));
  ends_.push_back(static_cast<int64_t>(all_.size()));
  int64_t different = 0;
  for (size_t i = 0; i < features.size(); ++i) {
    if (i == 0 || features[i] != features[i - 1]) ++different;
  }
  const auto count = static_cast<int64_t>(labels.size());
  totals_.add({.rows = 1,
               .features = different,
               .labels = count,
               .unknown_labels = std::count(labels.begin(), labels.end(), -1),
               .most_features = different,
               .most_labels = count,
               .without_features = different == 0 ? 1 : 0,
               .without_labels = count == 0 ? 1 : 0});
}

ExamplesWriter::ExamplesWriter(std::ostream& file, const std::string& name, int64_t rows)
    : file_(file), name_(name), rows_(rows) {
  file_.seekp(static_cast<std::streamoff>(kHeaderBytes) + (rows + 1) * 8);
  check_written();
}

void ExamplesWriter::write(const void* data, int64_t bytes) {
  file_.write(static_cast<const char*>(data), bytes);
  check_written();
}

void ExamplesWriter::check_written() const {
  if (file_) return;
  throw IoError(fmt::format("[prepare] {}: cannot be written: {}", name_, std::strerror(errno)));
}

void ExamplesWriter::begin_names(int64_t classes) {
  classes_ = classes;
  has_names_ = true;
}

void ExamplesWriter::add_name_begin(std::string_view name) {
  write(&name_bytes_, sizeof(name_bytes_));
  name_bytes_ += static_cast<int64_t>(name.size());
}

void ExamplesWriter::end_name_begins() { write(&name_bytes_, sizeof(name_bytes_)); }

void ExamplesWriter::add_count(int32_t count) {
  write(&count, sizeof(count));
  count_hash_.add(&count, sizeof(count));
}

void ExamplesWriter::add_name(std::string_view name) {
  write(name.data(), static_cast<int64_t>(name.size()));
  class_hash_.add(name).add("\n");
}

void ExamplesWriter::end_names() {
  constexpr std::array<char, 4> kPadding{};
  write(kPadding.data(), 4 * name_elements(name_bytes_) - name_bytes_);
}

void ExamplesWriter::write_feature_counts(std::span<const int32_t> counts) {
  feature_counts_ = static_cast<int64_t>(counts.size());
  write(counts.data(), static_cast<int64_t>(counts.size_bytes()));
  feature_hash_.add(counts.data(), counts.size_bytes());
}

void ExamplesWriter::add(const Records& records) {
  const std::span<const int32_t> all = records.all();
  write(all.data(), static_cast<int64_t>(all.size_bytes()));
  row_hash_.add(all.data(), all.size_bytes());
  begins_.clear();
  if (totals_.rows == 0) begins_.push_back(0);
  for (const int64_t end : records.ends()) begins_.push_back(ints_ + end);
  const std::streamoff here = file_.tellp();
  const int64_t first = totals_.rows == 0 ? 0 : totals_.rows + 1;
  file_.seekp(static_cast<std::streamoff>(kHeaderBytes) + first * 8);
  write(begins_.data(), static_cast<int64_t>(begins_.size() * sizeof(int64_t)));
  file_.seekp(here);
  check_written();
  ints_ += static_cast<int64_t>(all.size());
  totals_.add(records.totals());
}

std::string ExamplesWriter::header(const InputSettings& input, int64_t training_rows) const {
  json header;
  int64_t end = 0;
  const auto add = [&](const char* name, const char* type, int64_t bytes, int64_t elements) {
    const int64_t begin = std::exchange(end, end + bytes * elements);
    header[name] = {{"dtype", type}, {"shape", {elements}}, {"data_offsets", {begin, end}}};
  };
  add(kBegin, "I64", 8, rows_ + 1);
  if (has_names_) add(kNameBegin, "I64", 8, classes_ + 1);
  add(kCount, "I32", 4, classes_);
  if (has_names_) add(kNames, "I32", 4, name_elements(name_bytes_));
  if (feature_counts_ > 0) add(kFeatureCount, "I32", 4, feature_counts_);
  add(kRows, "I32", 4, ints_);

  StateDict state;
  input.save(state);
  state.set_integer(kVersion, kThisVersion);
  state.set_integer(kRowCount, totals_.rows);
  state.set_integer(kTrainingRows, training_rows > 0 ? training_rows : totals_.rows);
  state.set_integer(kClassCount, classes_);
  state.set_integer(kFeatureTotal, totals_.features);
  state.set_integer(kLabelTotal, totals_.labels);
  state.set_integer(kMostFeatures, totals_.most_features);
  state.set_integer(kMostLabels, totals_.most_labels);
  if (has_names_) state.set_integer(kNameBytes, name_bytes_);
  state.set_unsigned(kRowsChecksum, row_hash_.value());
  state.set_unsigned(kCountChecksum, count_hash_.value());
  if (feature_counts_ > 0) state.set_unsigned(kFeatureCountChecksum, feature_hash_.value());
  // What a test set shares with its training set.
  ContentHash classes = class_hash_;
  classes.add(count_hash_.value()).add(feature_hash_.value());
  StateDict shared;
  input.save(shared);
  for (const auto& [key, value] : shared.metadata) classes.add(key).add(value);
  state.set_unsigned(kClassesChecksum, classes.value());
  state.set_unsigned(kChecksum, metadata_checksum(state));
  header["__metadata__"] = state.metadata;

  const uint64_t length = kHeaderBytes - sizeof(length);
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += header.dump();
  check(bytes.size() <= kHeaderBytes, "[prepare] a header of {} bytes, at most {}", bytes.size(),
        kHeaderBytes);
  bytes.resize(kHeaderBytes, ' ');
  return bytes;
}

void ExamplesWriter::finish(const InputSettings& input, int64_t training_rows) {
  check(totals_.rows == rows_ && rows_ > 0, "[prepare] {} rows written, {} announced", totals_.rows,
        rows_);
  file_.seekp(0);
  const std::string bytes = header(input, training_rows);
  write(bytes.data(), static_cast<int64_t>(bytes.size()));
  file_.flush();
  check_written();
}

}  // namespace sketchgrad::apps::xc
