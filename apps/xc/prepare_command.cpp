#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <limits>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/progress.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/xc/prepare.h"

namespace sketchgrad::apps::xc {

namespace {

void print(const Prepared& prepared, const PrepareSettings& settings, double seconds) {
  const auto say = [](const std::string& line) { print_line(stdout, line); };
  const Records::Totals& totals = prepared.totals;
  const auto mean = [&](int64_t total) {
    return static_cast<double>(total) / static_cast<double>(totals.rows);
  };
  say(fmt::format("rows      {} ({} without features, {} without labels)", totals.rows,
                  totals.without_features, totals.without_labels));
  say(fmt::format("classes   {}", prepared.classes));
  const std::string unknown =
      settings.like.empty()
          ? ""
          : fmt::format("; {} of classes that training lacks", totals.unknown_labels);
  say(fmt::format("labels    {}, {:.2f} a row, at most {}{}", totals.labels, mean(totals.labels),
                  totals.most_labels, unknown));
  say(fmt::format("features  {}, {:.2f} a row, at most {}, of {}", totals.features,
                  mean(totals.features), totals.most_features, prepared.input.feature_dim));
  if (prepared.malformed > 0) say(fmt::format("malformed {} lines, skipped", prepared.malformed));
  constexpr int64_t kMiB = int64_t{1} << 20;
  say(fmt::format("{}: {} MiB, {} ({:.1f} s), peak {} MiB resident", settings.output,
                  static_cast<int64_t>(std::filesystem::file_size(settings.output)) / kMiB,
                  format_seconds(seconds), seconds, peak_resident_bytes() / kMiB));
}

}  // namespace

void add_options(CLI::App& command, PrepareSettings& settings) {
  command.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  command
      .add_option(
          "--input", settings.input,
          "files of rows, plain, .xz or .gz. Several files, also by several --input, follow "
          "each other. They are read twice")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->required();
  command.add_option("--output", settings.output, "file of prepared examples")->required();
  CLI::Option* like = command.add_option(
      "--like", settings.like,
      "a prepared training set, whose features and classes the rows take (a test set)");
  command
      .add_option("--malformed", settings.malformed,
                  "lines that are no rows: fatal, or skip, which counts them and shows the first")
      ->check(CLI::IsMember({"fatal", "skip"}))
      ->capture_default_str();
  command
      .add_option(
          "--format", settings.format,
          "tsv: text TAB label [TAB label]..., a row a line; xc: that of the extreme "
          "classification repository, a line \"rows features classes\" and lines \"label,... "
          "feature:value ...\", which begin with a space where there is no label")
      ->check(CLI::IsMember({"tsv", "xc"}))
      ->capture_default_str()
      ->excludes(like);
  command
      .add_option(
          "--features", settings.features,
          "of text: words, word-bigrams (two words that follow each other), char-ngrams, or "
          "several with commas between them")
      ->capture_default_str()
      ->excludes(like);
  command
      .add_option("--ngrams", settings.ngrams,
                  "lengths of char-ngrams in bytes, with a mark at each end of a word")
      ->capture_default_str()
      ->excludes(like);
  command
      .add_option("--hash-dim", settings.hash_dim,
                  "features are hashed to so many [262144 for tsv; for xc they stay as they are, "
                  "and also where there are no more of them]")
      ->check(whole_in(1, std::numeric_limits<int32_t>::max()))
      ->excludes(like);
  command
      .add_option("--weights", settings.weights,
                  "of a feature in a row: tf, its count in the text or its value in the file; "
                  "tf-idf, that times ln((1 + N) / n) / ln(1 + N) for one that n of N rows of "
                  "training have, so that rare features tell more (4 bytes a feature)")
      ->check(CLI::IsMember({"tf", "tf-idf"}))
      ->capture_default_str()
      ->excludes(like);
  command
      .add_flag("--normalize,!--no-normalize", settings.normalize,
                "scale the weights of each row to unit length, so that long rows and large values "
                "do not take larger steps " +
                    default_of(settings.normalize))
      ->excludes(like);
  command
      .add_option("--threads", settings.compute.threads,
                  "0: as many as there are processors. It never changes the result")
      ->check(whole_in(0, 1024))
      ->capture_default_str();
}

bool prepare_and_print(const PrepareSettings& settings) {
  const Compute compute(settings.compute);
  const StopSignal stop;
  const auto begin = std::chrono::steady_clock::now();
  const auto say = [](const std::string& line) { print_line(stderr, line); };
  const std::optional<Prepared> prepared = prepare(settings, say);
  if (!prepared) return false;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  print(*prepared, settings, seconds.count());
  return true;
}

}  // namespace sketchgrad::apps::xc
