#include "sketchgrad/apps/xc/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/output_paths.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/common/text_blocks.h"
#include "sketchgrad/apps/xc/class_names.h"
#include "sketchgrad/apps/xc/examples.h"
#include "sketchgrad/apps/xc/rows.h"

namespace sketchgrad::apps::xc {

namespace {

constexpr int64_t kMostReported = 5;
constexpr int64_t kTextDim = int64_t{1} << 18;

struct Stopped {};

struct MalformedLine {
  int64_t index;  // in its block, from 0
  std::string problem;
  bool is_header = false;  // as the first line of an XC file has it, where it is right
};

// What a reading of one block gives.
struct CountedBlock {
  int64_t rows = 0;
  std::vector<MalformedLine> malformed;
  BlockNames names;               // TSV
  std::vector<int32_t> ids;       // XC
  std::vector<int32_t> features;  // for tf-idf: different ones of each row
};
struct WrittenBlock {
  Records records;
  std::vector<MalformedLine> malformed;  // already told of
};

// Calls f(text, row) for each line that is a row.
template <class Function>
void for_each_row(const std::string& block, const InputSettings& input,
                  std::vector<MalformedLine>& malformed, Function f) {
  thread_local Row row;
  malformed.clear();
  for_each_line(block, [&](std::string_view line, int64_t index) {
    std::string_view text;
    std::string problem =
        input.format == Format::tsv ? parse_tsv(line, text, row) : parse_xc(line, input, row);
    if (problem.empty()) return f(text, row);
    XcHeader header;
    const bool is_header = input.format == Format::xc && parse_xc_header(line, header);
    malformed.push_back({index, std::move(problem), is_header});
  });
}

class Preparation {
 public:
  Preparation(const PrepareSettings& settings, const std::function<void(const std::string&)>& say,
              size_t block_bytes)
      : settings_(settings), say_(say), block_bytes_(block_bytes) {
    if (!settings.like.empty()) like_.emplace(Examples::open(settings.like));
    read_input_settings();
  }

  Prepared run() {
    count();
    replace_file("prepare", settings_.output, [&](std::ostream& file) {
      ExamplesWriter writer(file, settings_.output, rows_);
      write_classes(writer);
      if (input_.weighting == Weighting::tf_idf) {
        writer.write_feature_counts(like_ ? like_->feature_counts() : feature_counts_);
      }
      write_rows(writer);
      writer.finish(input_, like_ ? like_->training_rows() : 0);
      prepared_.totals = writer.totals();
    });
    prepared_.input = input_;
    return prepared_;
  }

 private:
  TextsReader texts() const { return TextsReader(settings_.input, block_bytes_, TextCut::lines); }

  void read_input_settings() {
    if (like_) {
      input_ = like_->input();
    } else {
      input_.format = settings_.format == "xc" ? Format::xc : Format::tsv;
      parse_features(settings_.features, input_);
      input_.ngrams = parse_ngrams(settings_.ngrams);
      input_.weighting = parse_weighting(settings_.weights);
      input_.normalize = settings_.normalize;
      input_.feature_dim = settings_.hash_dim > 0 ? settings_.hash_dim : kTextDim;
    }
    if (input_.format == Format::xc) {
      read_header();
    } else {
      text_features_.emplace(input_);
    }
  }

  void read_header() {
    header_ = read_xc_header(settings_.input);
    if (!like_) {
      input_.file_features = header_.features;
      input_.file_classes = header_.classes;
      const bool hashed = settings_.hash_dim > 0 && settings_.hash_dim < header_.features;
      input_.feature_dim = hashed ? settings_.hash_dim : header_.features;
    } else if (header_.features != input_.file_features || header_.classes != input_.file_classes) {
      throw DataError(
          settings_.input.front(), 1,
          fmt::format("{} features and {} classes, where {} has {} and {}", header_.features,
                      header_.classes, settings_.like, input_.file_features, input_.file_classes));
    }
  }

  // The first reading.
  void count() {
    if (input_.format == Format::xc && !like_) {
      counts_.resize(static_cast<size_t>(input_.file_classes));
    }
    if (counts_features()) feature_counts_.resize(static_cast<size_t>(input_.feature_dim));
    TextsReader reader = texts();
    for_each_block<CountedBlock>(
        reader, "counting classes",
        [&](const std::string& block, CountedBlock& counted) { count_block(block, counted); },
        [&](const CountedBlock& counted, const TextPlace& place) { add(counted, place); });
    if (rows_ == 0) throw DataError(names_of(settings_.input), 0, "no line is a row");
    const int64_t lines = rows_ + prepared_.malformed;
    if (input_.format == Format::xc && lines != header_.rows) {
      throw DataError(names_of(settings_.input), 0,
                      fmt::format("{} rows, where the first line says {}", lines, header_.rows));
    }
    if (like_) {
      if (like_->has_class_names()) {
        names_ = ClassNames(like_->class_counts(),
                            [&](int32_t id) { return like_->class_name_view(id); });
      }
    } else {
      names_.rank();
    }
  }

  void count_block(const std::string& block, CountedBlock& counted) const {
    counted.rows = 0;
    counted.names.clear();
    counted.ids.clear();
    counted.features.clear();
    for_each_row(block, input_, counted.malformed, [&](std::string_view text, Row& row) {
      ++counted.rows;
      if (counts_features()) add_features(text, row, counted.features);
      if (like_) return;
      for (const std::string_view name : row.names) counted.names.count(name);
      counted.ids.insert(counted.ids.end(), row.ids.begin(), row.ids.end());
    });
  }

  bool counts_features() const { return !like_ && input_.weighting == Weighting::tf_idf; }

  void add_features(std::string_view text, Row& row, std::vector<int32_t>& features) const {
    if (text_features_) text_features_->append(text, row.features);
    std::unique_copy(row.features.begin(), row.features.end(), std::back_inserter(features));
  }

  void add(const CountedBlock& counted, const TextPlace& place) {
    if (StopSignal::requested()) throw Stopped();
    for (const MalformedLine& line : counted.malformed) report(line, place);
    rows_ += counted.rows;
    if (like_) return;
    names_.add(counted.names);
    add_one_each(counted.ids, "class", counts_);
    add_one_each(counted.features, "feature", feature_counts_);
  }

  static void add_one_each(const std::vector<int32_t>& ids, const char* what,
                           std::vector<int32_t>& counts) {
    for (const int32_t id : ids) {
      int32_t& count = counts[static_cast<size_t>(id)];
      check(count < std::numeric_limits<int32_t>::max(), "[prepare] too many rows of {} {}", what,
            id);
      ++count;
    }
  }

  void report(const MalformedLine& malformed, const TextPlace& place) {
    const int64_t line = place.line + malformed.index;
    if (malformed.is_header && line == 1) return;
    const DataError error(place.file, line, malformed.problem);
    if (settings_.malformed == "fatal") throw DataError(error);
    if (++prepared_.malformed <= kMostReported) say_(fmt::format("skipped: {}", error.what()));
  }

  void write_classes(ExamplesWriter& writer) {
    if (input_.format == Format::xc) {
      const std::span<const int32_t> counts = like_ ? like_->class_counts() : counts_;
      prepared_.classes = input_.file_classes;
      writer.write_classes(prepared_.classes,
                           [&](int32_t id) { return counts[static_cast<size_t>(id)]; });
      return;
    }
    prepared_.classes = names_.size();
    writer.write_classes(
        prepared_.classes, [&](int32_t id) { return names_.name(id); },
        [&](int32_t id) { return names_.count(id); });
  }

  // The second reading.
  void write_rows(ExamplesWriter& writer) const {
    TextsReader reader = texts();
    for_each_block<WrittenBlock>(
        reader, "writing rows",
        [&](const std::string& block, WrittenBlock& written) { make_records(block, written); },
        [&](const WrittenBlock& written) {
          if (StopSignal::requested()) throw Stopped();
          check_unchanged(writer.totals().rows + written.records.totals().rows <= rows_);
          writer.add(written.records);
        });
    check_unchanged(writer.totals().rows == rows_ &&
                    (like_ || writer.totals().unknown_labels == 0));
  }

  void make_records(const std::string& block, WrittenBlock& written) const {
    written.records.clear();
    thread_local std::vector<int32_t> ids;
    for_each_row(block, input_, written.malformed, [&](std::string_view text, Row& row) {
      ids.clear();
      if (input_.format == Format::xc) {
        for (const int32_t id : row.ids) ids.push_back(known_id(id));
        written.records.add(ids, row.features, row.values);
        return;
      }
      for (const std::string_view name : row.names) ids.push_back(names_.id(name));
      row.features.clear();
      text_features_->append(text, row.features);
      written.records.add(ids, row.features, {});
    });
  }

  // Of a file of ids, those that stand in no row of the training set are unknown, as names are.
  int32_t known_id(int32_t id) const {
    return like_ && like_->class_counts()[static_cast<size_t>(id)] == 0 ? ClassNames::kUnknown : id;
  }

  void check_unchanged(bool unchanged) const {
    if (unchanged) return;
    throw DataError(names_of(settings_.input), 0,
                    "changed between the first and the second reading");
  }

  const PrepareSettings& settings_;
  const std::function<void(const std::string&)>& say_;
  size_t block_bytes_;
  std::optional<Examples> like_;
  InputSettings input_;
  std::optional<TextFeatures> text_features_;
  XcHeader header_;
  ClassNames names_;             // TSV
  std::vector<int32_t> counts_;  // XC
  std::vector<int32_t> feature_counts_;
  int64_t rows_ = 0;
  Prepared prepared_;
};

void check_output(const PrepareSettings& settings) {
  check_outputs({{"--output", settings.output}},
                named_paths("--input", settings.input) + named_paths("--like", {settings.like}));
  check_replaceable("prepare", settings.output);
}

}  // namespace

std::optional<Prepared> prepare(const PrepareSettings& settings,
                                const std::function<void(const std::string&)>& say,
                                size_t block_bytes) {
  check_output(settings);
  check_texts(settings.input);
  return reading_texts(settings.input, [&]() -> std::optional<Prepared> {
    try {
      return Preparation(settings, say, block_bytes).run();
    } catch (const Stopped&) {
      return std::nullopt;
    }
  });
}

}  // namespace sketchgrad::apps::xc
