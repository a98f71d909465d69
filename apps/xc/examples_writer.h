#pragma once

#include <cstdint>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/apps/common/content_hash.h"
#include "sketchgrad/apps/xc/input_settings.h"

namespace sketchgrad::apps::xc {

// Rows as records (examples_format.h), with what is counted of them.
class Records {
 public:
  void clear();
  // values: as many as features, or none. Equal features stand next to each other.
  void add(std::span<const int32_t> labels, std::span<const int32_t> features,
           std::span<const float> values);
  // Different ones of each row; of labels those of classes that are not known, too.
  struct Totals {
    int64_t rows = 0;
    int64_t features = 0;
    int64_t labels = 0;
    int64_t unknown_labels = 0;
    int64_t most_features = 0;
    int64_t most_labels = 0;
    int64_t without_features = 0;
    int64_t without_labels = 0;
    void add(const Totals& other);
  };
  const Totals& totals() const { return totals_; }
  std::span<const int32_t> all() const { return all_; }
  std::span<const int64_t> ends() const { return ends_; }

 private:
  std::vector<int32_t> all_;
  std::vector<int64_t> ends_;  // of each record, in all_
  Totals totals_;
};

// Writes a file of prepared examples. What is known after a first reading of the input comes first:
// so rows can follow as they are made, and nothing of them is held. Only where they begin is
// written at another place, once a block.
class ExamplesWriter {
 public:
  // `name` is the file's, for messages. Both are to outlive the writer. All functions throw IoError
  // with the system's reason where the file does not take what is written.
  ExamplesWriter(std::ostream& file, const std::string& name, int64_t rows);

  // Once, before rows: `name(id)` is a view of the class's name, `count(id)` its rows.
  template <class Name, class Count>
  void write_classes(int64_t classes, const Name& name, const Count& count) {
    begin_names(classes);
    for (int32_t id = 0; id < classes; ++id) add_name_begin(name(id));
    end_name_begins();
    write_counts(classes, count);
    for (int32_t id = 0; id < classes; ++id) add_name(name(id));
    end_names();
  }
  // The same for classes without names.
  template <class Count>
  void write_classes(int64_t classes, const Count& count) {
    classes_ = classes;
    write_counts(classes, count);
  }
  // Then, where weights are tf-idf, the rows of the training set that have each feature.
  void write_feature_counts(std::span<const int32_t> counts);
  void add(const Records& records);
  // After all rows, as many as were announced. `training_rows`: of the set whose classes these are;
  // 0: this one.
  void finish(const InputSettings& input, int64_t training_rows);
  const Records::Totals& totals() const { return totals_; }

 private:
  template <class Count>
  void write_counts(int64_t classes, const Count& count) {
    for (int32_t id = 0; id < classes; ++id) add_count(count(id));
  }
  void begin_names(int64_t classes);
  void add_name_begin(std::string_view name);
  void end_name_begins();
  void add_count(int32_t count);
  void add_name(std::string_view name);
  void end_names();
  void write(const void* data, int64_t bytes);
  void check_written() const;
  std::string header(const InputSettings& input, int64_t training_rows) const;

  std::ostream& file_;
  const std::string& name_;
  int64_t rows_;  // to come in all
  int64_t classes_ = 0;
  bool has_names_ = false;
  int64_t name_bytes_ = 0;
  int64_t feature_counts_ = 0;
  int64_t ints_ = 0;  // of records so far
  ContentHash row_hash_;
  ContentHash count_hash_;
  ContentHash feature_hash_;
  ContentHash class_hash_;
  Records::Totals totals_;
  std::vector<int64_t> begins_;
};

}  // namespace sketchgrad::apps::xc
