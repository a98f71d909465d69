#include "sketchgrad/apps/xc/examples.h"

#include <fmt/format.h>

#include <numeric>
#include <utility>

#include "sketchgrad/apps/xc/batch_builder.h"
#include "sketchgrad/apps/xc/examples_format.h"

namespace sketchgrad::apps::xc {

namespace {

// A mapped tensor of one axis.
template <class T>
struct Array {
  std::shared_ptr<const T> data;
  int64_t size = 0;
  const T& operator[](int64_t i) const { return data.get()[i]; }
  std::span<const T> all() const { return {data.get(), static_cast<size_t>(size)}; }
};

template <class T>
Array<T> map_array(const std::string& path, const char* name) {
  const MappedTensor tensor = map_safetensors(path, name);
  if (tensor.dtype != DTypeOf<T>::value || tensor.shape.size() != 1) {
    throw DataError(path, 0,
                    fmt::format("tensor \"{}\" is {} {}", name, to_string(tensor.dtype),
                                to_string(tensor.shape)));
  }
  return {std::static_pointer_cast<const T>(tensor.data), tensor.shape[0]};
}

}  // namespace

RowNumbers::RowNumbers(int64_t begin, int64_t count)
    : numbers_(Tensor::empty({count}, {Category::index, "xc.row_numbers"}, DType::int64)) {
  std::iota(all().begin(), all().end(), begin);
}

struct Examples::File {
  std::string path;
  InputSettings input;
  int64_t rows = 0;
  int64_t training_rows = 0;
  int64_t classes = 0;
  int64_t features_total = 0;
  int64_t labels_total = 0;
  int64_t most_features = 0;
  int64_t most_labels = 0;
  uint64_t checksum = 0;
  uint64_t classes_checksum = 0;
  Array<int64_t> begin;
  Array<int32_t> records;
  Array<int32_t> counts;
  Array<int32_t> feature_counts;  // none where weights are tf
  bool has_names = false;
  Array<int64_t> name_begin;
  Array<int32_t> names;
  int64_t name_bytes = 0;

  [[noreturn]] void fail(const std::string& problem) const { throw DataError(path, 0, problem); }
  void read_metadata(const StateDict& state);
  void map(const StateDict& state);
  void check_counts(const StateDict& state, const char* key,
                    std::span<const int32_t> of_file) const;
  RowView row(int64_t i) const;
};

void Examples::File::read_metadata(const StateDict& state) {
  const auto version = state.metadata.find(kVersion);
  if (version == state.metadata.end()) fail("is no file of examples, as `xc prepare` makes them");
  if (state.unsigned_integer(kChecksum) != metadata_checksum(state)) {
    fail("the header does not match its checksum");
  }
  if (state.integer(kVersion) != kThisVersion) {
    fail(fmt::format("is of version {} of prepared examples, this program has {}", version->second,
                     kThisVersion));
  }
  input = InputSettings::load(state);
  rows = state.integer(kRowCount);
  training_rows = state.integer(kTrainingRows);
  classes = state.integer(kClassCount);
  features_total = state.integer(kFeatureTotal);
  labels_total = state.integer(kLabelTotal);
  most_features = state.integer(kMostFeatures);
  most_labels = state.integer(kMostLabels);
  checksum = state.unsigned_integer(kChecksum);
  classes_checksum = state.unsigned_integer(kClassesChecksum);
  has_names = input.format == Format::tsv;
  if (has_names) name_bytes = state.integer(kNameBytes);
}

void Examples::File::map(const StateDict& state) {
  begin = map_array<int64_t>(path, kBegin);
  records = map_array<int32_t>(path, kRows);
  counts = map_array<int32_t>(path, kCount);
  bool fits = begin.size == rows + 1 && counts.size == classes;
  if (has_names) {
    name_begin = map_array<int64_t>(path, kNameBegin);
    names = map_array<int32_t>(path, kNames);
    fits = fits && name_begin.size == classes + 1 && names.size == (name_bytes + 3) / 4;
  }
  if (input.weighting == Weighting::tf_idf) {
    feature_counts = map_array<int32_t>(path, kFeatureCount);
    fits = fits && feature_counts.size == input.feature_dim && training_rows >= 1;
  }
  if (!fits) fail("tensors are not as large as the header says");
  check_counts(state, kCountChecksum, counts.all());
  if (feature_counts.size > 0) {
    check_counts(state, kFeatureCountChecksum, feature_counts.all());
  }
}

void Examples::File::check_counts(const StateDict& state, const char* key,
                                  std::span<const int32_t> of_file) const {
  ContentHash hash;
  hash.add(of_file.data(), of_file.size_bytes());
  if (hash.value() != state.unsigned_integer(key)) {
    fail(fmt::format("counts do not match \"{}\"", key));
  }
}

// Nothing outside of the file may be read, whatever it holds.
RowView Examples::File::row(int64_t i) const {
  check(i >= 0 && i < rows, "[examples] row {} is not in the {} of {}", i, rows, path);
  const int64_t first = begin[i];
  const int64_t end = begin[i + 1];
  const auto damaged = [&]() { fail(fmt::format("row {} is damaged", i)); };
  if (first < 0 || first > records.size - kRecordHeader || end < first + kRecordHeader ||
      end > records.size) {
    damaged();
  }
  const int64_t label_count = records[first];
  const int64_t feature_count = records[first + 1];
  const int64_t a_feature = input.format == Format::xc ? 2 : 1;
  if (label_count < 0 || feature_count < 0 ||
      kRecordHeader + label_count + a_feature * feature_count != end - first) {
    damaged();
  }
  const int32_t* data = records.data.get() + first + kRecordHeader;
  RowView view{{data, static_cast<size_t>(label_count)},
               {data + label_count, static_cast<size_t>(feature_count)}};
  if (a_feature == 2) view.value_bits = data + label_count + feature_count;
  for (const int32_t label : view.labels) {
    if (label < -1 || label >= classes) damaged();
  }
  // Features with values are different ones: a batch has room for only so many values.
  int32_t least = 0;
  for (const int32_t feature : view.features) {
    if (feature < least || feature >= input.feature_dim) damaged();
    least = a_feature == 2 ? feature + 1 : feature;
  }
  return view;
}

Examples Examples::open(const std::string& path) {
  const StateDict state = load_safetensors(path, [](const std::string&) { return false; });
  const auto file = std::make_shared<File>();
  file->path = path;
  file->read_metadata(state);
  file->map(state);
  return Examples(file);
}

const InputSettings& Examples::input() const { return file_->input; }
int64_t Examples::rows() const { return file_->rows; }
int64_t Examples::training_rows() const { return file_->training_rows; }
int64_t Examples::classes() const { return file_->classes; }
int64_t Examples::features_total() const { return file_->features_total; }
int64_t Examples::labels_total() const { return file_->labels_total; }
int64_t Examples::max_features_per_row() const { return file_->most_features; }
int64_t Examples::max_labels_per_row() const { return file_->most_labels; }
uint64_t Examples::checksum() const { return file_->checksum; }
uint64_t Examples::classes_checksum() const { return file_->classes_checksum; }
std::span<const int32_t> Examples::class_counts() const { return file_->counts.all(); }
std::span<const int32_t> Examples::feature_counts() const { return file_->feature_counts.all(); }
FeatureWeights Examples::feature_weights() const {
  const bool normalize = input().normalize;
  return input().weighting == Weighting::tf
             ? FeatureWeights(normalize)
             : FeatureWeights(normalize, feature_counts(), training_rows());
}
bool Examples::has_class_names() const { return file_->has_names; }

std::string Examples::class_name(int32_t id) const {
  check(id >= 0 && id < classes(), "[examples] class {} is not in the {} of {}", id, classes(),
        file_->path);
  if (!has_class_names()) return std::to_string(id);
  return std::string(class_name_view(id));
}

std::string_view Examples::class_name_view(int32_t id) const {
  check(has_class_names() && id >= 0 && id < classes(), "[examples] {} has no class {} with a name",
        file_->path, id);
  const int64_t begin = file_->name_begin[id];
  const int64_t end = file_->name_begin[int64_t{id} + 1];
  if (begin < 0 || end < begin || end > file_->name_bytes) {
    file_->fail(fmt::format("the name of class {} is damaged", id));
  }
  const char* bytes = reinterpret_cast<const char*>(file_->names.data.get());
  return {bytes + begin, static_cast<size_t>(end - begin)};
}

Batch Examples::batch(std::span<const int64_t> rows) const {
  BatchBuilder builder(feature_weights());
  for (const int64_t row : rows) builder.count(file_->row(row));
  builder.begin_copies();
  for (const int64_t row : rows) builder.copy(file_->row(row));
  return builder.finish();
}

}  // namespace sketchgrad::apps::xc
